-- MariaDB's own. Lost elsewhere: a table with inet4 or inet6 does not start, one with a COMPRESSED column loses its changes silently.
set sql_mode = '';
create table maria (id uuid primary key, i4 inet4 default '0.0.0.0', i6 inet6, u uuid, j json, jn json not null default '{}', notjson longtext,
  cv varchar(100) compressed, cv2 varchar(1000) compressed, cl varchar(254) character set latin1 compressed, cb blob compressed, ct text compressed, clt longtext compressed,
  ck varchar(50) character set gbk compressed, cvb varbinary(300) compressed, ctt tinytext compressed);
-- rows
insert into maria values ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1', '::ffff:1.2.3.4', '00000000-0000-0000-0000-000000000000', '{"b": 1, "a":  1.10, "a":2,\n "s": "x\\"\\u00e9"}', '[1, 1e300]', '{"a": 1}', 'short', repeat('abc', 300), repeat('é', 200), repeat(x'00ff', 400), repeat('text ', 100), repeat('long ', 2000), repeat('汉', 50), repeat(x'61', 300), 'tiny');
insert into maria values ('ffffffff-ffff-ffff-ffff-ffffffffffff', null, null, null, null, 'null', null, null, null, null, null, null, null, null, null, null);
insert into maria values ('00000000-0000-0000-0000-000000000001', '255.255.255.255', 'fe80::1', '12345678-1234-1234-1234-123456789012', '"\\u0000 é😀"', '0', '', '', '', '', '', '', '', '', '', '');
insert into maria values ('00112233-4455-6677-8899-aabbccddee00', '0.0.0.0', '::', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a00', 'true', '-0.0', '汉', 'é😀', 'x', 'é', x'00', '', ' ', '汉', x'0000', 'ö');
insert into maria values ('00000000-0000-0000-0000-000000000002', '1.2.3.0', '2001:db8::', null, '  [ ]  ', '{"a":{"b":[1,2,{"c":null}]}}', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x');
insert into maria values ('00000000-0000-0000-0000-000000000003', '127.0.0.1', '::1', null, null, '[]', null, null, null, null, null, null, null, null, null, null);
insert into maria values ('00000000-0000-0000-0000-000000000004', '1.0.0.0', '::1.2.3.4', null, null, '[]', null, null, null, null, null, null, null, null, null, null);
