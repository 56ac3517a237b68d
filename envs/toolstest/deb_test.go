package toolstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stead-env/stead/envs/lock"
)

// deb is a package to be made.
type deb struct {
	name    string
	arch    string            // "" for all
	control string            // further lines
	files   map[string]string // by absolute path; one that ends in a slash is a folder
	modes   map[string]os.FileMode
	links   map[string]string // hard links: new name, old name
	points  map[string]string // symbolic links
	scripts map[string]string // postinst and so on, without the first line
	conf    []string
}

// dated is the time of all files in packages.
var dated = time.Date(2024, 8, 31, 10, 3, 48, 0, time.UTC)

// build makes a package, puts it into the store, and pins it.
func (w *world) build(d deb) lock.Package {
	w.t.Helper()
	return w.add(w.file(d))
}

// file makes a package file.
func (w *world) file(d deb) string {
	w.t.Helper()
	dir := w.t.TempDir()
	root := filepath.Join(dir, "root")
	put := func(name, text string, mode os.FileMode) {
		name = filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil {
			err = os.WriteFile(name, []byte(text), mode)
		}
		if err == nil {
			err = os.Chmod(name, mode)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	do := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	arch := d.arch
	if arch == "" {
		arch = "all"
	}
	put("DEBIAN/control", fmt.Sprintf("Package: %s\nVersion: 1.0-1\nArchitecture: %s\n%sMaintainer: Nobody <nobody@mirror.example>\n"+
		"Description: %s\n", d.name, arch, d.control, d.name), 0o644)
	for name, text := range d.scripts {
		put("DEBIAN/"+name, "#!/bin/sh\nset -e\n"+text, 0o755)
	}
	if len(d.conf) > 0 {
		put("DEBIAN/conffiles", strings.Join(d.conf, "\n")+"\n", 0o644)
	}
	for name, text := range d.files {
		if strings.HasSuffix(name, "/") {
			do(os.MkdirAll(filepath.Join(root, name), 0o755))
		} else {
			put(name, text, 0o644)
		}
	}
	for name, old := range d.links {
		do(os.Link(filepath.Join(root, old), filepath.Join(root, name)))
	}
	for name, target := range d.points {
		do(os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		do(os.Symlink(target, filepath.Join(root, name)))
	}
	for name, mode := range d.modes {
		do(os.Chmod(filepath.Join(root, name), mode))
	}
	out, err := exec.Command("find", root, "-exec", "touch", "-h", "-d", dated.Format(time.RFC3339), "{}", "+").CombinedOutput()
	if err == nil {
		cmd := exec.Command("dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "-b", root, filepath.Join(dir, d.name+".deb"))
		cmd.Env = append(os.Environ(), fmt.Sprint("SOURCE_DATE_EPOCH=", dated.Unix()))
		out, err = cmd.CombinedOutput()
	}
	if err != nil {
		w.t.Fatalf("making %s: %v\n%s", d.name, err, out)
	}
	return filepath.Join(dir, d.name+".deb")
}
