-- Run once, as the superuser, in the database `shop`, when its volume is empty.

CREATE TABLE customers (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    email      text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    status      text NOT NULL DEFAULT 'new',
    total       numeric(12, 2) NOT NULL,
    details     jsonb,
    created_at  timestamptz NOT NULL DEFAULT now()
);

INSERT INTO customers (name, email) VALUES ('Ada', 'ada@example.com'), ('Grace', 'grace@example.com');

-- All that Rowcast needs: to replicate and to read. It owns nothing and can't write.
\getenv password CDC_PASSWORD
CREATE ROLE cdc LOGIN REPLICATION PASSWORD :'password';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO cdc;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO cdc;

-- Made here, since only a superuser, or the tables' owner with CREATE on the database, can. Rowcast would make it for such a
-- role, and takes it as it is from any other. Tables that come to the schema later belong to it.
CREATE PUBLICATION rowcast_shop_postgres FOR TABLES IN SCHEMA public
    WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
