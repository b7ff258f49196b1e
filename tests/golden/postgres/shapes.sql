-- Types that have no exact binary form: a publication with one of them is streamed as text. debezium-losses: line, lseg, box, path,
-- polygon, circle, tsquery, reg*, cube, point[] are absent.
create extension cube;
create extension seg;
create type alone as (at point, owner regrole);
create table shapes (id int primary key, at point, ln line, seg lseg, bx box, way path, area polygon, ring circle, query tsquery, cls regclass, typ regtype, proc regproc,
  procedure regprocedure, op regoper, operator regoperator, cfg regconfig, dict regdictionary, ns regnamespace, own regrole, coll regcollation, cb cube, sg seg,
  ats point[], bxs box[], queries tsquery[], clss regclass[], it alone, rights aclitem[]);
-- rows
insert into shapes values (1, '(1.5,-2)', '{1,-1,0}', '[(0,0),(1,1)]', '((1,1),(0,0))', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),1.5>', '''fat'':*A & !''rat'' <-> ''x''', 'pg_class', 'numeric(10,2)', 'now', 'abs(integer)', '||/', '+(integer,integer)', 'english', 'simple', 'public', 'postgres', '"C"', '(1,2),(3,4)', '1.5 .. 2', '{"(1,2)",NULL,"(1e+300,NaN)"}', '{(1,1),(0,0);(2,2),(1,1)}', '{"''a'' & ''b''",NULL}', '{pg_class,shapes}', '("(1,2)",postgres)', '{postgres=r/postgres,=r/postgres}');
insert into shapes values (2, '(Infinity,-0)', '{1,1e-300,1}', '[(NaN,0),(1e15,1e-5)]', '((1e15,123456789012345678),(0.1,0.00001))', '((0,0))', '((0,0))', '<(1,1),0>', '', null, 'shapes', null, null, null, null, null, null, null, null, null, '(0)', '<5', '{}', '{}', '{}', '{}', '(,)', '{}');
insert into shapes values (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
