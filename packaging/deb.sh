#!/bin/sh
# Makes the Debian package of a binary: with manual pages, completions and the AppArmor profile. The same input gives the same bytes.
#
# usage: packaging/deb.sh BINARY [FOLDER]      FOLDER takes the package, default target; its path is printed
#
# COFFERDAM_DYNAMIC=1 takes a program with shared libraries, to try the packaging with. SOURCE_DATE_EPOCH is the time of every file in it; without it, that of the last commit.
set -eu
umask 022
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: packaging/deb.sh BINARY [FOLDER]; packaging/build.sh builds the binary" >&2; exit 2; }
binary=$1
folder=${2:-target}
command -v dpkg-deb >/dev/null 2>&1 || { echo "deb: dpkg-deb is missing; on Debian and Ubuntu it is there, elsewhere: install dpkg" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The package depends on nothing, so its program must need nothing.
if command -v readelf >/dev/null 2>&1 && readelf -d "$binary" | grep -q NEEDED; then
    [ -n "${COFFERDAM_DYNAMIC:-}" ] || { echo "deb: $binary needs shared libraries; packaging/build.sh builds one that does not" >&2; exit 1; }
fi
case $("$binary" -V) in "cofferdam $version") ;; *) echo "deb: $binary is not version $version" >&2; exit 1 ;; esac
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || { echo "deb: set SOURCE_DATE_EPOCH: there is no commit to take the time from" >&2; exit 1; }
fi
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
put() { mkdir -p "$root/$(dirname "$3")" && install -m "$1" "$2" "$root/$3"; } # MODE FROM TO
made() { mkdir -p "$root/$(dirname "$1")" && cat >"$root/$1" && chmod 644 "$root/$1"; } # TO

put 755 "$binary" usr/bin/cofferdam
"$binary" -q man "$root/usr/share/man/man1"
find "$root/usr/share/man" -type f -exec gzip -9n {} +
"$binary" completions bash | made usr/share/bash-completion/completions/cofferdam
"$binary" completions zsh | made usr/share/zsh/vendor-completions/_cofferdam
"$binary" completions fish | made usr/share/fish/vendor_completions.d/cofferdam.fish
# AppArmor before version 4 cannot read it: it is put into place by postinst, where it can.
put 644 packaging/apparmor/cofferdam usr/share/cofferdam/apparmor
put 644 README.md usr/share/doc/cofferdam/README.md
for page in docs/*.md; do put 644 "$page" "usr/share/doc/cofferdam/docs/$(basename "$page")"; done
put 644 packaging/debian/copyright usr/share/doc/cofferdam/copyright
gzip -9nc CHANGELOG.md | made usr/share/doc/cofferdam/changelog.gz

mkdir "$root/DEBIAN"
for script in postinst prerm postrm; do put 755 "packaging/debian/$script" "DEBIAN/$script"; done
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) | made DEBIAN/md5sums
size=$(du -k -s --apparent-size "$root/usr" | cut -f 1)
sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$size/" packaging/debian/control | made DEBIAN/control

find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$folder"
package=$folder/cofferdam_${version}_amd64.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
printf '%s\n' "$package"
