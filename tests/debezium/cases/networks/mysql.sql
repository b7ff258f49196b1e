create table geometries (id int primary key, g geometry, p point, l linestring, a polygon, mp multipoint, ml multilinestring, ma multipolygon, gc geometrycollection, pn point not null);
insert into geometries values (1, ST_GeomFromText('POINT(1.5 -2)'), ST_GeomFromText('POINT(1 1)'), ST_GeomFromText('LINESTRING(0 0,1 1,2 2.25)'), ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 10,0 0),(5 5,7 5,7 7,5 7,5 5))'), ST_GeomFromText('MULTIPOINT(0 0,20 20)'), ST_GeomFromText('MULTILINESTRING((10 10,20 20),(15 15,30 15))'), ST_GeomFromText('MULTIPOLYGON(((0 0,10 0,10 10,0 10,0 0)),((5 5,7 5,7 7,5 7,5 5)))'), ST_GeomFromText('GEOMETRYCOLLECTION(POINT(10 10),LINESTRING(15 15,20 20))'), ST_GeomFromText('POINT(1e300 -1e-300)'));
insert into geometries values (2, null, null, null, null, null, null, null, null, ST_GeomFromText('POINT(0 0)'));

-- stream
insert into geometries values (3, ST_GeomFromText('POINT(1 2)', 3857), ST_GeomFromText('POINT(1 2)', 3857), null, null, null, null, null, null, ST_GeomFromText('POINT(13.4 52.5)', 3857));
insert into geometries values (4, null, null, null, null, null, null, null, null, ST_GeomFromText('POINT(-0.5 1e21)'));
update geometries set p = ST_GeomFromText('POINT(7 8)') where id = 1;
