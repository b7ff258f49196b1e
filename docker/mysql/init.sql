-- Run once, as root, in the database `shop`, when its volume is empty.

CREATE TABLE products (
    sku        varchar(32) NOT NULL PRIMARY KEY,
    name       varchar(200) NOT NULL,
    price      decimal(12, 2) NOT NULL,
    attributes json,
    updated_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
);

CREATE TABLE stock (
    sku       varchar(32) NOT NULL,
    warehouse varchar(32) NOT NULL,
    quantity  int NOT NULL,
    PRIMARY KEY (sku, warehouse),
    FOREIGN KEY (sku) REFERENCES products (sku)
);

INSERT INTO products (sku, name, price, attributes) VALUES
    ('tea-100', 'Green tea, 100 g', 6.50, '{"organic": true}'),
    ('cup-1', 'Cup', 12.00, NULL);

-- The image made the user (its password is in no file) with all rights on the database. All that Rowcast needs: to replicate
-- and to read.
REVOKE ALL PRIVILEGES ON shop.* FROM 'cdc'@'%';
GRANT SELECT ON shop.* TO 'cdc'@'%';
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'cdc'@'%';
