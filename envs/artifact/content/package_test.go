package content

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const debControl = `Package: app
Version: 1:2.0-1
Architecture: amd64
Maintainer: Nobody <nobody@mirror.example>
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: libc6 (>= 2.34), libssl3 | libssl1.1 (>= 1.1.1),
 python3:any
Breaks: app-old (<< 2)
Conflicts: other
Provides: app-api (= 2), editor
Description: an app
 with a long text
`

func TestDeb(t *testing.T) {
	t.Parallel()
	jar := string(zipBytes(t, zipped{"A.class", 0o644, []byte("\xca\xfe\xba\xbe")}))
	dir := tree(t, map[string]string{"p/DEBIAN/control": debControl, "p/usr/bin/app": string(elf(100_000)), "p/usr/lib/app/libx.so→libx.so.1": "",
		"p/usr/share/app/app.jar": jar, "p/usr/share/app/data.zip": jar, "p/DEBIAN/postinst": "#!/bin/sh\n"})
	for _, how := range []string{"none", "gzip", "xz", "zstd"} {
		name := filepath.Join(dir, how+".deb")
		command(t, dir, "dpkg-deb", "--root-owner-group", "-Z"+how, "-b", "p", name)
		w := walkIt(t, name, Options{At: "/elsewhere"})
		w.is(t, "= deb /", "folder 0755 /usr", "folder 0755 /usr/bin", "file 0755 /usr/bin/app 100004",
			"folder 0755 /usr/lib", "folder 0755 /usr/lib/app", "folder 0755 /usr/share", "folder 0755 /usr/share/app", fmt.Sprintf("file 0755 /usr/share/app/app.jar %d", len(jar)),
			"= jar /usr/share/app/app.jar!", "file 0644 /usr/share/app/app.jar!/A.class 4",
			fmt.Sprintf("file 0755 /usr/share/app/data.zip %d", len(jar)), "link /usr/lib/app/libx.so → libx.so.1")
		if !bytes.Equal(w.bodies["/usr/bin/app"], elf(100_000)) {
			t.Errorf("%s: its content is another", how)
		}
		p := w.sets[0].Package
		if p.Name != "app" || p.Version != "1:2.0-1" || p.Architecture != "amd64" ||
			fmt.Sprint(p.Depends) != "[init-system-helpers (>= 1.54~) libc6 (>= 2.34) libssl3 | libssl1.1 (>= 1.1.1) python3:any]" ||
			fmt.Sprint(p.Excludes) != "[other app-old (<< 2)]" || fmt.Sprint(p.Provides) != "[app-api (= 2) editor]" {
			t.Errorf("%s: the package says %+v", how, p)
		}
	}
}

// Members of control.tar and data.tar come in the forms that dpkg-deb once wrote, too.
func TestOldDeb(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"p/usr/bin/app": string(elf(64)), "c/control": debControl, "debian-binary": "2.0\n"})
	command(t, dir, "tar", "-C", "c", "-czf", "control.tar.gz", "control")
	for ext, flag := range map[string]string{"lzma": "--lzma", "bz2": "-j", "zst": "--zstd"} {
		command(t, dir, "tar", "-C", "p", flag, "-cf", "data.tar."+ext, "./usr")
		command(t, dir, "ar", "rc", ext+".deb", "debian-binary", "control.tar.gz", "data.tar."+ext)
		walkIt(t, filepath.Join(dir, ext+".deb"), Options{}).is(t, "= deb /", "folder 0755 /usr", "folder 0755 /usr/bin", "file 0755 /usr/bin/app 68")
	}
	command(t, dir, "ar", "rc", "turned.deb", "debian-binary", "data.tar.bz2", "control.tar.gz")
	w := walkIt(t, filepath.Join(dir, "turned.deb"), Options{})
	if err := w.sets[0].Broken; err == nil || !strings.Contains(err.Error(), "before control.tar") {
		t.Errorf("data.tar before control.tar: %v", err)
	}
}

const rpmSpec = `Name: app
Version: 2.0
Release: 1
Epoch: 3
Summary: an app
License: none
Requires: libssl.so.3()(64bit), bash >= 4.2
Conflicts: other < 1
Provides: app-api = 2
AutoReqProv: no
%define __os_install_post %{nil}
%define debug_package %{nil}
%description
An app.
%install
cp -a %{_sourcedir}/p/. %{buildroot}
%files
/usr
`

func TestRPM(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"w9.gzdio", "w6.xzdio", "w9.bzdio", "w3.zstdio", "w6.lzdio"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := tree(t, map[string]string{"p/usr/bin/app": string(elf(100_000)), "p/usr/lib/app/libx.so→libx.so.1": "", "app.spec": rpmSpec})
			if err := os.Link(filepath.Join(dir, "p/usr/bin/app"), filepath.Join(dir, "p/usr/bin/app2")); err != nil {
				t.Fatal(err)
			}
			name := buildRPM(t, dir, "--define", "_binary_payload "+how)
			w := walkIt(t, name, Options{})
			slices.Sort(w.lines[1:])
			w.is(t, "= rpm /", "file 0755 /usr/bin/app2 100004", "folder 0755 /usr", "folder 0755 /usr/bin", "folder 0755 /usr/lib", "folder 0755 /usr/lib/app",
				"hard link /usr/bin/app → /usr/bin/app2", "link /usr/lib/app/libx.so → libx.so.1")
			if !bytes.Equal(w.bodies["/usr/bin/app2"], elf(100_000)) {
				t.Error("its content is another")
			}
			p := w.sets[0].Package
			if p.Name != "app" || p.Version != "3:2.0-1" || p.Architecture != "x86_64" || fmt.Sprint(p.Depends) != "[bash >= 4.2 libssl.so.3()(64bit)]" ||
				fmt.Sprint(p.Excludes) != "[other < 1]" || !slices.Contains(p.Provides, "app-api = 2") {
				t.Errorf("the package says %+v", p)
			}
		})
	}
}

func buildRPM(t *testing.T, dir string, args ...string) string {
	t.Helper()
	args = append(args, "--quiet", "--target", "x86_64", "--define", "_topdir "+dir+"/build", "--define", "_sourcedir "+dir, "-bb", "app.spec")
	command(t, dir, "rpmbuild", args...)
	made, err := filepath.Glob(filepath.Join(dir, "build/RPMS/*/*.rpm"))
	if err != nil || len(made) != 1 {
		t.Fatal(errors.Join(err, fmt.Errorf("packages that were made: %v", made)))
	}
	return made[0]
}
