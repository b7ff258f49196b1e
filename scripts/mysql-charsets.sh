#!/usr/bin/env bash
# Asks a running MySQL what every byte and every sequence of bytes means in each of its character sets that isn't a form of Unicode,
# and writes the answers as the tables that connectors/mysql decodes text by. tests/mysql/charsets.rs compares them with both servers.
#
#   mysql-charsets.sh DIR    DIR is a folder of servers.sh with a mysql; the tables in connectors/mysql/src/rows/charset/ are replaced
#
# A table of single bytes (NAME.bin): 256 code points of 16 bits, little-endian; ffff: the byte means nothing.
# A table of two bytes (NAME.bin): 128 code points for single bytes from 80 on; then for each first byte from 80 on the smallest second
# byte, how many second bytes there are (a byte each), and the index of the first one's code point (16 bits); then these code points.
# Sequences of three bytes, 8f in front (NAME3.bin): the same, for the two behind.
# gb18030 has four bytes too, counted linearly (gb18030-4.bin): runs, each the first number and the first code point (16 bits each).
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
dir=${1:?a folder of servers}
out=$here/../connectors/mysql/src/rows/charset
mkdir -p "$out"

single='armscii8 ascii cp1250 cp1251 cp1256 cp1257 cp850 cp852 cp866 dec8 geostd8 greek hebrew hp8 keybcs2 koi8r koi8u latin1 latin2
  latin5 latin7 macce macroman swe7 tis620'
double='big5 cp932 eucjpms euckr gb18030 gb2312 gbk sjis ujis'

# ask SET COUNT EXPRESSION   one line per number below COUNT whose bytes are well-formed: the bytes, and in UTF-16 what they mean.
# `?` is what the server has for "nothing", so that only the byte 3f may be it.
ask() {
  "$here/servers.sh" sql "$dir" mysql -N --raw -e "set session cte_max_recursion_depth = 2000000, sql_mode = '';
    with recursive n (i) as (select 0 union all select i + 1 from n where i < $2 - 1)
    select hex(b), hex(convert(c using utf16)) from (select b, convert(b using $1) c from (select unhex($3) b from n) x) y
    where c is not null and hex(c) = hex(b)"
}

pack='
  sub of { my $h = pop; return $h eq "003F" || length $h != 4 ? 0xffff : hex $h }
  while (<STDIN>) { my ($b, $u) = split; $u{$b} = $b eq "3F" ? 0x3f : of($u) }
'
for set in $single; do
  ask "$set" 256 "lpad(hex(i), 2, '0')" |
    perl -e "$pack"'print pack "v*", map { $u{sprintf "%02X", $_} // 0xffff } 0 .. 255' >"$out/$set.bin"
done

plane='
  sub plane {
    my ($prefix) = @_;
    my ($heads, @all) = ("");
    for my $lead (0x80 .. 0xff) {
      my @known = grep { ($u{sprintf "%s%02X%02X", $prefix, $lead, $_} // 0xffff) != 0xffff } 0 .. 0xff;
      my ($first, $last) = @known ? @known[0, -1] : (0, -1);
      $heads .= pack "CCv", $first, $last - $first + 1, scalar @all;
      push @all, map { $u{sprintf "%s%02X%02X", $prefix, $lead, $_} // 0xffff } $first .. $last;
    }
    my @singles = map { $prefix eq "" ? $u{sprintf "%02X", $_} // 0xffff : 0xffff } 0x80 .. 0xff;
    return pack("v*", @singles) . $heads . pack "v*", @all;
  }
'
for set in $double; do
  ask "$set" 65536 "if(i < 256, lpad(hex(i), 2, '0'), hex(i))" | perl -e "$pack$plane"'
    for (0 .. 127) { die "the lower half is not ASCII" if ($u{sprintf "%02X", $_} // -1) != $_ }
    print plane ""
  ' >"$out/$set.bin"
done
for set in eucjpms ujis; do
  ask "$set" 32768 "concat('8F', hex(32768 + i))" | perl -e "$pack$plane"'print plane "8F"' >"$out/${set}3.bin"
done
ask gb18030 39420 "concat(hex(129 + i div 12600), hex(48 + i div 1260 % 10), hex(129 + i div 10 % 126), hex(48 + i % 10))" |
  perl -e '
    my ($n, $next) = (0, -1);
    while (<STDIN>) {
      my $u = hex((split)[1]);
      print pack "vv", $n, $u if $u != $next;
      ($n, $next) = ($n + 1, $u + 1);
    }
    die "$n" if $n != 39420;
  ' >"$out/gb18030-4.bin"
ls -l "$out"/*.bin >&2
