create table numbers (id int primary key, small smallint, whole integer, big bigint, single real, dbl double precision,
  free numeric, fixed numeric(20, 5), plain numeric(9), amount money, number oid, serial_ serial, big_ bigserial, flag boolean);
insert into numbers values (1, -32768, -2147483648, -9223372036854775808, 'NaN', 'NaN', 1.10, -123456789012345.67891, -999999999, '-92233720368547758.08', 0, 1, 1, true);
insert into numbers values (2, 32767, 2147483647, 9223372036854775807, 'Infinity', '-Infinity', 123456789012345678901234567890.123456789, 99999.99999, 999999999, '92233720368547758.07', 4294967295, 2, 2, false);
insert into numbers values (3, null, null, null, null, null, null, null, null, null, null, 3, 3, null);

-- stream
insert into numbers values (4, 0, 0, 0, 0.1, 0.1, 1.10, 0.00001, 0, 0, 1, 4, 4, true);
insert into numbers values (5, 1, -1, 4503599627370497, 3.4028235e38, 2.2250738585072014e-308, 'NaN', 'NaN', 'NaN', 1234.56, 2, 5, 5, false);
insert into numbers values (6, 2, 1, 1, -0.0, -0.0, 1e-30, 1, 1, -0.01, 3, 6, 6, null);
insert into numbers values (7, 3, 1, 1, 16777216, 9007199254740993, 10000, 10000, 10, 100, 3, 7, 7, null);
insert into numbers values (8, 3, 1, 1, 1e-45, 123456789.123, 100000000, 99999999.00001, 1, 0.5, 3, 8, 8, null);
insert into numbers values (9, 4, 1, 1, 1.17549435e-38, 1.7976931348623157e308, -0.00, 1, 1, -1234.11, 3, 9, 9, null);
insert into numbers values (10, 4, 1, 1, 1e7, 1e7, 0, 0, 1, 1, 3, 10, 10, null);
insert into numbers values (11, 4, 1, 1, 1234567.9, 12345678.9, 12345678901234567890, 1.5, 1, 1, 3, 11, 11, null);
insert into numbers values (12, 4, 1, 1, 1e-3, 1e-4, 1e40, -1.5, 1, 1, 3, 12, 12, null);
insert into numbers values (13, null, null, null, null, null, null, null, null, null, null, 13, 13, null);
insert into numbers values (14, -1, -1, -1, 'Infinity', 'NaN', -128, -1.28, -128, -1.28, 128, 14, 14, null);
insert into numbers values (15, 128, 128, 128, '-Infinity', 'Infinity', 128, 1.28, 128, 1.28, 255, 15, 15, null);
update numbers set big = 1 where id = 1;
