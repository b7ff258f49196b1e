-- Ranges and composites. debezium-losses: composite and multirange are absent, arrays of domains and of composites too.
create domain percent as numeric(5, 2);
create type span as range (subtype = percent, multirange_type_name = spans_);
create type words as range (subtype = text, collation = "C", multirange_type_name = words_);
create type point3 as (x int, y numeric(10, 2), "z ""q""" text);
create type line3 as (from_ point3, to_ point3, tags text[], "when" tstzrange);
create type nothing as ();
create type dropped as (a int, gone text, b text);
alter type dropped drop attribute gone;
create domain spot as point3 check ((value).x is null or (value).x < 1000);
create domain spots as spot[];
create table ranges (id int primary key, ints int4range, bigs int8range, nums numrange, days daterange, locals tsrange, instants tstzrange,
  own span, text_ words, intss int4multirange, numss nummultirange, dayss datemultirange, localss tsmultirange, instantss tstzmultirange,
  bigss int8multirange, owns span[], rangess int4range[], multis int4multirange[], owned spans_, textss words_, it point3, line line3,
  none nothing, part dropped, its point3[], spot spot, spots spots, lines line3[]);
-- rows
insert into ranges values (1, '[1,5]', '(1,5)', '(1.10,2.50]', '[2026-11-22,2026-11-30)', '["2026-11-22 11:32:36.5",)', '(,"2026-11-22 11:32:36.5+01"]', '[0.5,99.99]', '[a,"b ""c"", [d)")', '{[1,2),[5,9)}', '{[1.0,2.0],(3.00,)}', '{[2026-01-01,2026-02-01)}', '{["2026-11-22 11:32:36","2026-11-22 11:32:37")}', '{(,"2026-11-22 11:32:36+00")}', '{[1,2)}', '{"[0.1,0.2)",NULL,empty}', '{"[1,2)",empty,NULL}', '{"{[1,2)}","{}",NULL}', '{[1,2)}', '{[a,b),["x y",z)}', '(1,2.5,"a ""b"" \\ (c), d")', '("(1,2,x)","(,,)","{a,NULL,""b c"", ""q\\""""}","[2026-01-01,)")', '()', '(1,b)', '{"(1,2.00,x)",NULL,"(,,\"a \\\"\\\"b\\\"\\\"\")"}', '(7,8,"")', '{"(1,1,a)","(2,2,\"b c\")"}', '{"(\"(1,2,\\\"x y\\\")\",,,)"}');
insert into ranges values (2, 'empty', '(,)', '(,)', '(,infinity)', '[-infinity,infinity]', '[infinity,infinity]', 'empty', '["","")', '{}', '{}', '{(,)}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '(,,)', '(,,,)', '()', '(,)', '{}', null, '{}', '{}');
insert into ranges values (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
insert into ranges values (4, '(,5)', '[-9223372036854775808,9223372036854775807)', '[NaN,NaN]', '["0044-03-15 BC",infinity]', '("0044-03-15 00:00:00 BC","294276-12-31 23:59:59")', '["2026-01-01","infinity")', '(,)', '("NULL",)', '{(,1),[3,)}', '{[NaN,NaN]}', '{[infinity,infinity]}', '{(,infinity)}', '{[-infinity,infinity]}', '{(,)}', '[0:1]={"[1,2)","(,)"}', '{{"[1,2)"},{"[3,4)"}}', '[5:5]={"{(,)}"}', '{(,1],[2,3)}', '{}', '(-2147483648,NaN,"""")', null, null, '(,"")', '[0:0]={"(1,,)"}', '(,,)', '[2:2]={"(1,1,a)"}', '{"(\"(,,)\",\"(1,0.10,\\\"a,b\\\")\",\"{\\\"a,b\\\",\\\"\\\\\\\"\\\"}\",empty)"}');
