create extension hstore;
create table big (id int primary key, n int, body text, doc json, docb jsonb, data bytea, texts text[], ints int[], bigs bigint[], uids uuid[], map hstore, num numeric, title varchar);
alter table big alter body set storage external, alter doc set storage external, alter docb set storage external, alter data set storage external, alter texts set storage external, alter ints set storage external,
  alter bigs set storage external, alter uids set storage external, alter map set storage external, alter num set storage external, alter title set storage external;
create table whole (id int primary key, n int, body text);
alter table whole alter body set storage external;
alter table whole replica identity full;
insert into big select 1, 1, repeat('x', 3000), ('"' || repeat('x', 3000) || '"')::json, ('"' || repeat('x', 3000) || '"')::jsonb, decode(repeat('00', 3000), 'hex'), array_agg('text ' || i), array_agg(i), array_agg(i::bigint),
  array_agg('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid), hstore('k', repeat('x', 3000)), (repeat('1', 6000))::numeric, repeat('y', 3000) from generate_series(1, 800) i;
insert into whole select 1, 1, repeat('x', 3000);
alter table big add short text;
truncate big, whole;

-- stream
insert into big (id, n, short) values (1, 1, 'short');
update big set body = repeat('x', 3000), doc = ('"' || repeat('x', 3000) || '"')::json, docb = ('"' || repeat('x', 3000) || '"')::jsonb, data = decode(repeat('00', 3000), 'hex'), texts = (select array_agg('text ' || i) from generate_series(1, 300) i),
  ints = (select array_agg(i) from generate_series(1, 800) i), bigs = (select array_agg(i::bigint) from generate_series(1, 400) i), uids = (select array_agg('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid) from generate_series(1, 200) i), map = hstore('k', repeat('x', 3000)), num = (repeat('1', 6000))::numeric, title = repeat('y', 3000);
update big set n = 2, short = '__debezium_unavailable_value';
update big set id = 10;
delete from big;
insert into whole select 1, 1, repeat('x', 3000);
update whole set n = 2;
delete from whole;
