-- MySQL's JSON: numbers, nesting, order of keys and duplicates as the server has them; opaque members; vectors; indexes whose columns are hidden. Lost elsewhere: a negative
-- fractional TIME in JSON is garbage, doubles are expanded to a hundred digits.
create table json (id int primary key, j json, k json, v vector(3), vl vector, index ids ((cast(j->'$.ids' as unsigned array))), index text_ ((cast(j->>'$.x' as char(20)))));
-- rows
insert into json values (1, '{"b": 1, "a": 2, "long": null, "a": 3, "": true}', '[]', to_vector('[1.5,-2,3e10]'), to_vector('[0.1]'));
insert into json values (2, null, null, null, null);
insert into json values (3, '[1, -1, 0, 127, 32767, 32768, 65536, -32769, 2147483648, -2147483649, 4294967296, 9223372036854775807, -9223372036854775808, 18446744073709551615, 18446744073709551616]', '"text \\" \\\\ \\u0001 \\/ é😀"', to_vector('[0,0,0]'), to_vector('[3.4028235e38,-1e-30]'));
insert into json values (4, '[1e100, 1e-7, 0.1, 1.0, -0.0, 1e15, 1e16, 123456789012345680000, 1.5e300, 5e-324, 0.30000000000000004, 1e14, 1225937609971963.2, 100.0]', 'null', null, null);
insert into json values (5, json_object('d', cast('2026-11-22' as date), 't', cast('-12:34:56.789' as time(3)), 't2', cast('-838:59:59' as time), 'dt', cast('2026-11-22 11:32:36.5' as datetime(6)), 'n', cast(-1.50 as decimal(5, 2)), 'big', cast(12345678901234567890.123456789 as decimal(65, 9))), json_array(x'00ff', b'101', cast('x' as binary(4)), true, false, null, _utf16'é', ST_GeomFromText('POINT(1 2)'), cast('2026' as year)), null, null);
insert into json values (6, concat(repeat('[', 99), repeat(']', 99)), concat(repeat('{"a":', 99), '1', repeat('}', 99)), null, null);
insert into json values (7, json_object(repeat('k', 300), 1, 'ü', json_array(), 'z', json_object()), 'false', null, null);
