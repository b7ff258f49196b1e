-- Numbers of both servers. Lost elsewhere: an explicit NULL becomes the column's default, bigint unsigned over 2^63 is negative (in keys
-- too), decimal zerofill at full width stops the snapshot, the year 0000 is 1900 or 2000 or stops it, a float of 16777216 is 16777200,
-- a column `auto` stops the stream.
set sql_mode = '';
create table numbers (id bigint unsigned primary key, t tinyint default 7, tu tinyint unsigned default 8, s smallint, su smallint unsigned,
  m mediumint, mu mediumint unsigned, i int default -1, iu int unsigned default 4294967295, b bigint,
  bu bigint unsigned default 18446744073709551615, flag tinyint(1), d decimal(65,30), d2 decimal(10,2) default 1.50, d0 decimal(5,0),
  d65 decimal(65,0) unsigned, d30 decimal(30,30), z decimal(6,2) zerofill, iz int(9) zerofill, f float default 0.5, f3 float(7,3), db double,
  db4 double(10,4), b1 bit(1), b7 bit(7), b8 bit(8), b9 bit(9) default b'101', b33 bit(33), b64 bit(64), y year default 2026, `auto` int);
-- rows
insert into numbers values (1, -128, 0, -32768, 0, -8388608, 0, -2147483648, 0, -9223372036854775808, 0, 7, -12345678901234567890123456789012345.123456789012345678901234567890, -99999999.99, -99999, 0, -0.123456789012345678901234567890, 0.5, 5, -3.4028235e38, -1234.567, -1.7976931348623157e308, -123456.7891, b'0', b'0', b'0', b'0', b'0', b'0', 0, -1);
insert into numbers values (18446744073709551615, 127, 255, 32767, 65535, 8388607, 16777215, 2147483647, 4294967295, 9223372036854775807, 18446744073709551615, 1, 99999999999999999999999999999999999.999999999999999999999999999999, 99999999.99, 99999, 99999999999999999999999999999999999999999999999999999999999999999, 0.999999999999999999999999999999, 9999.99, 999999999, 3.4028235e38, 9999.999, 1.7976931348623157e308, 999999.9999, b'1', b'1111111', b'11111111', b'111111111', b'111111111111111111111111111111111', b'1111111111111111111111111111111111111111111111111111111111111111', 2155, 1);
insert into numbers values (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
insert into numbers values (9223372036854775808, 0, 128, 0, 32768, -1, 8388608, 0, 2147483648, 0, 9223372036854775808, -1, 0, 0, 0, 1, 0, 1234.5, 123, 16777216, 0.001, 0.1, 0.0001, b'1', b'1000000', b'10000000', b'100000000', b'100000000000000000000000000000000', b'1000000000000000000000000000000000000000000000000000000000000000', 1901, 0);
insert into numbers values (5, -1, 1, -1, 1, 1, 1, -1, 1, -1, 1, 0, -0.000000000000000000000000000001, -0.01, -1, 123456789, 0.000000000000000000000000000001, 0.01, 0, 1e-45, -0.001, 5e-324, -0.0001, b'0', b'101', b'101', b'101', b'101', b'101', 1999, 5);
insert into numbers values (6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 1, 1, 0.1, 1, 123456789.123, 1, b'1', b'1', b'1', b'1', b'1', b'1', 2000, 6);
insert into numbers values (7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1000000000, 1, 1, 1000000000000000000000, 0.1, 1, 1, 1e20, 1, 1e100, 1, b'1', b'1', b'1', b'1', b'1', b'1', 1970, 7);
insert into numbers (id) values (8);
