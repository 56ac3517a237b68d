package pkgdb

import (
	"path"
	"strings"
)

// unincorporated applies triggers/Unincorp: lines of a trigger and the packages
// that set it off, which dpkg has not worked into the states yet (its
// trigdeferred.c). Who waits becomes triggers-awaited, who is interested
// triggers-pending; a "-" in place of a package waits for nobody.
func (d *dpkg) unincorporated() error {
	file := triggersDir + "Unincorp"
	if len(d.content[file]) == 0 {
		return nil
	}
	interested, err := d.interests()
	if err != nil {
		return err
	}
	return lines(file, d.content[file], func(n int, line string) error {
		words := strings.Fields(line)
		if len(words) == 0 {
			return nil
		}
		if len(words) < 2 {
			return &ParseError{file, n, "a trigger was set off by nobody"}
		}
		for _, name := range interested[words[0]] {
			name, _, _ = strings.Cut(name, "/") // options follow: /noawait
			if p := d.named(name); p != nil && p.State == "installed" {
				p.State = "triggers-pending"
			}
		}
		for _, name := range words[1:] {
			if p := d.named(name); p != nil && (p.State == "installed" || p.State == "triggers-pending") {
				p.State = "triggers-awaited"
			}
		}
		return nil
	})
}

// interests reads who waits for which trigger: triggers/NAME has a package to a
// line, triggers/File a path and a package.
func (d *dpkg) interests() (map[string][]string, error) {
	all := map[string][]string{}
	for f, content := range d.content {
		dir, name := path.Split(f)
		if dir != triggersDir || name == "Unincorp" {
			continue
		}
		err := lines(f, content, func(n int, line string) error {
			if line == "" {
				return nil
			}
			if name != "File" {
				all[name] = append(all[name], line)
				return nil
			}
			trigger, pkg := lastWord(line)
			if trigger == "" {
				return &ParseError{f, n, "a path has no package that is interested"}
			}
			all[trigger] = append(all[trigger], pkg)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// named finds a package by "name" or "name:arch".
func (d *dpkg) named(name string) *installed {
	name, arch, ok := strings.Cut(name, ":")
	if ok {
		return d.packages[key{name, arch}]
	}
	for _, arch := range []string{d.native, "all"} {
		if p := d.packages[key{name, arch}]; p != nil {
			return p
		}
	}
	return nil
}
