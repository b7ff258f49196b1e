-- Numbers. debezium-losses: NaN and infinities of numeric become null, numeric(5,-3) has the scale 2045, unconstrained numeric
-- loses its trailing zeros, money[] is absent, an explicit NULL becomes the column's default.
create table numbers (id int primary key, small smallint default 7, whole integer, big bigint, single real, dbl double precision,
  free numeric, fixed numeric(20, 5), coarse numeric(5, -3), amount money default 1, number oid, frees numeric[], amounts money[],
  smalls int2[], dbls float8[], vec2 int2vector, veco oidvector);
-- rows
insert into numbers values (1, -32768, -2147483648, -9223372036854775808, 'NaN', 'NaN', 'NaN', 'NaN', 'NaN', '-92233720368547758.08', 0, '{NaN,1.10,NULL}', '{-1.05,NULL}', '{}', '{NaN,-Infinity,0.1}', '', '');
insert into numbers values (2, 32767, 2147483647, 9223372036854775807, 'Infinity', '-Infinity', 'Infinity', -99999.99999, 12345000, '92233720368547758.07', 4294967295, '{Infinity,-Infinity}', '{0}', '{-1,0,1}', '[0:1]={1e300,-0}', '1 -2 3', '1 4294967295');
insert into numbers values (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
insert into numbers values (4, 0, 0, 0, 0.1, 0.1, 1.10, 0.00001, 1000, 0, 1, '{{1,2},{3,4}}', '{{1.5},{-0.01}}', '{{{1}},{{2}}}', '{1e23,5e-324,1.7976931348623157e308}', '7', '8');
insert into numbers values (5, 1, -1, 4503599627370497, 3.4028235e38, 2.2250738585072014e-308, '-Infinity', 123456789012345.67891, -99999000, 1234.56, 2, '{100000000000000000000.00000000000000000001}', '{1234567.89}', null, null, null, null);
insert into numbers values (6, 2, 1, 1, -0.0, -0.0, 1e-30, 1, 0, -0.01, 3, '{1e40,-1e-10}', null, null, null, null, null);
insert into numbers values (7, 3, 1, 1, 16777216, 9007199254740993, 10000, 10000, 500, 100, 3, '{0.0001,0.00010000,10000.0001}', null, null, null, null, null);
insert into numbers values (8, 3, 1, 1, 1e-45, 123456789.123, 100000000, 99999999.00001, 499, 0.5, 3, '{-0.00,9999,10000,99990000}', null, null, null, null, null);
insert into numbers (id) values (9);
