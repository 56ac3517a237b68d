# For roots whose packages were extracted, not installed: dpkg's database of them.
# Sourced by bash.

# record ROOT DEB notes a package as unpacked, as dpkg does.
record() {
	local info=$1/var/lib/dpkg/info deb=$2 name arch key
	name=$(dpkg-deb -f "$deb" Package) arch=$(dpkg-deb -f "$deb" Architecture) key=$name
	[ "$(dpkg-deb -f "$deb" Multi-Arch)" != same ] || key=$name:$arch
	dpkg-deb -f "$deb" | sed "1a Status: install ok unpacked" >>"$1/var/lib/dpkg/status"
	echo >>"$1/var/lib/dpkg/status"
	dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's,^\.,,; s,/$,,; s,^$,/.,' >"$info/$key.list"
	mkdir "$1.control"
	dpkg-deb -e "$deb" "$1.control"
	for member in "$1.control"/*; do
		[ "${member##*/}" = control ] || cp -p "$member" "$info/$key.${member##*/}"
	done
	rm -r "$1.control"
}

# records ROOT DEBS writes the database of the packages in the folder DEBS.
records() {
	local deb file
	mkdir -p "$1/var/lib/dpkg/info"
	for file in status diversions statoverride; do : >"$1/var/lib/dpkg/$file"; done
	echo 1 >"$1/var/lib/dpkg/info/format"
	for deb in "$2"/*.deb; do record "$1" "$deb"; done
}
