package envs

import (
	"bufio"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/lock"
)

// licenses are the names of packages' licenses, by layer and package.
type licenses map[string][]string

// The bounds of what is read of a package's copyright file.
const (
	maxCopyright = 1 << 20
	maxLicenses  = 100
)

// read reads the copyright files of packages below root. What has none in the
// machine-readable form, or is hostile, has no licenses: they are told where known.
func (l licenses) read(layer, root string, packages []lock.Package) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return
	}
	defer dir.Close()
	docs, err := dir.OpenRoot("usr/share/doc")
	if err != nil {
		return
	}
	defer docs.Close()
	for _, p := range packages {
		key := layer + "/" + p.Name
		if _, ok := l[key]; ok || strings.ContainsAny(p.Name, "/\x00") {
			continue
		}
		// A package's folder may be a link to that of another one, beside it.
		fi, err := docs.Stat(p.Name + "/copyright")
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		f, err := docs.Open(p.Name + "/copyright")
		if err != nil {
			continue
		}
		if names := readCopyright(f); len(names) > 0 {
			l[key] = names
		}
		f.Close()
	}
}

// readCopyright reads the short names of licenses from a copyright file in Debian's
// machine-readable form; there are none in any other.
// https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
func readCopyright(r io.Reader) []string {
	lines := bufio.NewScanner(io.LimitReader(r, maxCopyright))
	found := map[string]bool{}
	for first := true; lines.Scan() && len(found) < maxLicenses; {
		key, value, ok := strings.Cut(lines.Text(), ":")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		switch {
		case first && lines.Text() == "":
		case first && (!ok || key != "format"):
			return nil
		case first:
			first = false
		case key == "license" && lines.Text()[0] != ' ' && goodLicense(value):
			found[value] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// goodLicense reports whether a name of a license is one that can be passed on.
func goodLicense(name string) bool {
	return name != "" && len(name) <= 120 && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' })
}

// spdxLicenses are SPDX's ids for Debian's short names, where both surely mean the same.
var spdxLicenses = map[string]string{
	"Apache-2.0": "Apache-2.0", "Artistic-2.0": "Artistic-2.0", "BSD-2-clause": "BSD-2-Clause", "BSD-3-clause": "BSD-3-Clause",
	"BSL-1.0": "BSL-1.0", "CC0-1.0": "CC0-1.0", "Expat": "MIT", "MIT": "MIT", "ISC": "ISC", "MPL-1.1": "MPL-1.1", "MPL-2.0": "MPL-2.0",
	"OFL-1.1": "OFL-1.1", "PostgreSQL": "PostgreSQL", "Unlicense": "Unlicense", "Zlib": "Zlib", "curl": "curl", "FSFAP": "FSFAP",
	"AGPL-3": "AGPL-3.0-only", "AGPL-3+": "AGPL-3.0-or-later", "GFDL-1.3": "GFDL-1.3-only", "GFDL-1.3+": "GFDL-1.3-or-later",
	"GPL-1": "GPL-1.0-only", "GPL-1+": "GPL-1.0-or-later", "GPL-2": "GPL-2.0-only", "GPL-2+": "GPL-2.0-or-later",
	"GPL-3": "GPL-3.0-only", "GPL-3+": "GPL-3.0-or-later", "LGPL-2": "LGPL-2.0-only", "LGPL-2+": "LGPL-2.0-or-later",
	"LGPL-2.1": "LGPL-2.1-only", "LGPL-2.1+": "LGPL-2.1-or-later", "LGPL-3": "LGPL-3.0-only", "LGPL-3+": "LGPL-3.0-or-later",
}

// of are a package's licenses for the list of an env.
func (l licenses) of(layer, name string) []bomLicense {
	var list []bomLicense
	for _, short := range l[layer+"/"+name] {
		var b bomLicense
		b.License.ID, b.License.Acknowledgement = spdxLicenses[short], "declared"
		if b.License.ID == "" {
			b.License.Name = short
		}
		list = append(list, b)
	}
	return list
}
