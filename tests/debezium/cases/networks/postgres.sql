create table networks (id int primary key, host inet, net cidr, mac macaddr, mac8 macaddr8, at point, ints int4range, bigs int8range, nums numrange, days daterange, locals tsrange, instants tstzrange,
  lsn pg_lsn, tx xid, ring circle, seg lseg, bx box, way path, area polygon, ln line, multi int4multirange, name_ name);
insert into networks values (1, '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '(1.5,-2)', '[1,5]', '(1,5)', '(1.10,2.50]', '[2026-11-22,2026-11-30)', '["2026-11-22 11:32:36.5",)', '(,"2026-11-22 11:32:36.5+01"]', '16/B374D848', '7', '<(0,0),1.5>', '[(0,0),(1,1)]', '((1,1),(0,0))', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '{1,-1,0}', '{[1,2),[5,9)}', 'a_name');
insert into networks (id) values (2);

-- stream
insert into networks values (3, '192.168.2.0/12', '::/0', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00:00:00', '(0,1e300)', 'empty', '(,)', '(,)', '(,infinity)', '[-infinity,infinity]', '["2026-01-01 00:00:00+00","2026-02-01 00:00:00+00")', '0/0', '0', '<(1,1),0>', '[(0,0),(1,1)]', '((1,1),(0,0))', '((0,0))', '((0,0))', '{1,1,1}', '{}', 'n');
insert into networks (id) values (4);
update networks set host = '::1' where id = 1;
