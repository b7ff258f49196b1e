-- Types of PostGIS and pgvector, which needn't be installed: the same names, with the texts and bytes that theirs have, in what the
-- catalog takes for the extensions. Without a send function they come as text even where binary was asked for.
set allow_system_table_mods = on;
insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
  select n, name, 10, 2200, false, '1' from (values (90000::oid, 'postgis'), (90001, 'vector')) as it(n, name);
create type geometry;
create type geography;
create type vector;
create type halfvec;
create type sparsevec;
create function geometry_in(cstring) returns geometry language internal immutable strict as 'textin';
create function geometry_out(geometry) returns cstring language internal immutable strict as 'textout';
create function geography_in(cstring) returns geography language internal immutable strict as 'textin';
create function geography_out(geography) returns cstring language internal immutable strict as 'textout';
create function vector_in(cstring) returns vector language internal immutable strict as 'textin';
create function vector_out(vector) returns cstring language internal immutable strict as 'textout';
create function halfvec_in(cstring) returns halfvec language internal immutable strict as 'textin';
create function halfvec_out(halfvec) returns cstring language internal immutable strict as 'textout';
create function sparsevec_in(cstring) returns sparsevec language internal immutable strict as 'textin';
create function sparsevec_out(sparsevec) returns cstring language internal immutable strict as 'textout';
create type geometry (input = geometry_in, output = geometry_out, internallength = variable);
create type geography (input = geography_in, output = geography_out, internallength = variable);
create type vector (input = vector_in, output = vector_out, internallength = variable);
create type halfvec (input = halfvec_in, output = halfvec_out, internallength = variable);
create type sparsevec (input = sparsevec_in, output = sparsevec_out, internallength = variable);
alter extension postgis add type geometry;
alter extension postgis add type geography;
alter extension vector add type vector;
alter extension vector add type halfvec;
alter extension vector add type sparsevec;
create table extensions (id int primary key, shape geometry, place geography, vec vector, half halfvec, sparse sparsevec);
-- rows
insert into extensions values (1, '0101000020E6100000000000000000F03F0000000000000040', '0101000020E6100000000000000000F03F0000000000000040', '[1,-2.5,0.1]', '[0.33325195,65504]', '{1:1.5,3:-2}/5');
insert into extensions values (2, '0101000000000000000000F03F0000000000000040', '0020000001000010E63FF00000000000004000000000000000', '[3.4028235e+38,1e-45]', '[0]', '{}/3');
insert into extensions values (3, null, null, null, null, null);
insert into extensions values (4, '01010000A0E6100000000000000000F03F00000000000000400000000000000840', null, '[0]', '[5.9604645e-08]', '{1000000000:1}/1000000000');
