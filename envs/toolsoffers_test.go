package envs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/tools"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
)

// debWith is a package file with that control file and nothing else of interest.
func debWith(t *testing.T, control string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := tw.WriteHeader(&tar.Header{Name: "./control", Mode: 0o644, Size: int64(len(control)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write([]byte(control)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	deb := "!<arch>\n"
	for _, m := range []struct{ name, content string }{{"debian-binary", "2.0\n"}, {"control.tar", b.String()}, {"data.tar", ""}} {
		deb += fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", m.name, 0, 0, 0, 0o644, len(m.content), m.content)
		if len(m.content)%2 == 1 {
			deb += "\n"
		}
	}
	return []byte(deb)
}

// toolsRoot is a root with a library and an archive that nobody reaches.
func toolsRoot(t *testing.T) string {
	root := t.TempDir()
	tree(t, root, map[string]string{
		"var/lib/dpkg/arch": "amd64\ni386\n",
		"var/lib/dpkg/status": "Package: libfoo1\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1.0-1\n" +
			"Pre-Depends: dpkg\nDepends: libc6 (>= 2.31),\n libbar | libbaz\nProvides: foo (= 1)\nDescription: x\n\n" +
			"Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 3\n\n",
		"var/lib/dpkg/info/libfoo1:amd64.list": "not a path, and nobody looks\n",
		"etc/apt/sources.list":                 "deb http://127.0.0.1:1/debian bullseye main\n",
	})
	return root
}

func toolsOptions() ToolsOptions {
	return ToolsOptions{Readers: pkgdb.Brief, OpenRoot: func(dir string) (snapshot.Host, error) { return host.Folder(dir) }}
}

func TestToolsBase(t *testing.T) {
	h, err := host.Folder(toolsRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	base, err := toolsBase(t.Context(), h, pkgdb.Brief)
	if err != nil {
		t.Fatal(err)
	}
	want := tools.Installed{Name: "libfoo1", Version: "1.0-1", Architecture: "amd64", State: "installed",
		Relations: tools.Relations{MultiArch: "same", PreDepends: "dpkg", Depends: "libc6 (>= 2.31), libbar | libbaz", Provides: "foo (= 1)"}}
	if base.Architecture != "amd64" || strings.Join(base.Foreign, " ") != "i386" || len(base.Packages) != 2 ||
		base.Packages[1] != want || base.Packages[0].State != "config-files" {
		t.Errorf("got %+v", base)
	}
}

// What the store has of the fleet's packages, and of tools chosen before, is offered where
// no archive answers; and the archive is told.
func TestOffersFor(t *testing.T) {
	f := testFleet(t)
	cfg := Config{Store: testStore(t), Fleet: f}
	put := func(name, version, more string) lock.Package {
		deb := debWith(t, "Package: "+name+"\nVersion: "+version+"\nArchitecture: amd64\n"+more+"Description: x\n")
		d := digest.FromBytes(deb)
		if err := cfg.Store.PutBlob(t.Context(), d, int64(len(deb)), bytes.NewReader(deb)); err != nil {
			t.Fatal(err)
		}
		return lock.Package{Name: name, Version: version, Architecture: "amd64", Size: int64(len(deb)), SHA256: d.Encoded(), Proof: lock.Exact}
	}
	archive := lock.Archive{Name: "debian-bullseye", URI: "http://mirror.example/debian", Suite: "bullseye",
		InRelease: digest.FromString("x"), SignedBy: []string{strings.Repeat("A", 40)}, Dated: time.Unix(1e9, 0).UTC()}
	dev := put("libfoo-dev", "1.0-1", "Source: foo (1.0)\nDepends: libfoo1 (= 1.0-1), gcc\n")
	dev.Archive, dev.Path = archive.Name, "pool/libfoo-dev.deb"
	gcc, same, other := put("gcc", "10", ""), put("libfoo1", "1.0-1", ""), put("unrelated", "1", "")
	absent := lock.Package{Name: "gcc", Version: "11", Architecture: "amd64", Size: 1, SHA256: strings.Repeat("0", 64), Proof: lock.Repacked}
	l := testLock("built", 1)
	l.Host.ID, l.Host.Codename, l.Archives = "debian", "bullseye", []lock.Archive{archive}
	l.Packages = []lock.Package{dev, same, other, absent}
	dir := filepath.Join(f.Dir(), "built")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "1.lock"), l.Write(), 0o644); err != nil {
		t.Fatal(err)
	}
	mine := testLock("acme", 1)
	mine.Host.ID, mine.Host.Codename, mine.Host.Architecture = "debian", "bullseye", "amd64"
	opts := toolsOptions()
	opts.Known = []*Tools{{Packages: []lock.Package{gcc}}}
	base := &Root{Path: toolsRoot(t)}
	on := tools.Base{Architecture: "amd64", Packages: []tools.Installed{{Name: "libfoo1", Version: "1.0-1", Architecture: "amd64", State: "installed"}}}
	for _, offline := range []bool{false, true} {
		opts.Offline = offline
		found, err := offersFor(t.Context(), cfg, opts, base, mine, on, []string{"libfoo-dev", "gcc"})
		if err != nil {
			t.Fatal(err)
		}
		if len(found.Problems) != 1 || len(found.Archives) != 1 || found.Archives[0].InRelease != archive.InRelease {
			t.Errorf("problems %v, archives %v", found.Problems, found.Archives)
		}
		if c := found.Candidates; len(c) != 2 || c[0].Name != "gcc" || c[0].Archive != "" || c[0].Proof != lock.Repacked ||
			c[1].Depends != "libfoo1 (= 1.0-1), gcc" || c[1].Source != "foo" || c[1].Archive != "debian-bullseye" || c[1].Path != dev.Path {
			t.Errorf("candidates %+v", c)
		}
	}
	mine.Host.Codename = "bookworm"
	found, err := offersFor(t.Context(), cfg, opts, base, mine, on, []string{"libfoo-dev", "gcc"})
	if err != nil || len(found.Candidates) != 1 {
		t.Errorf("for another release: %+v, %v", found, err)
	}
}

// An archive whose index of files can't be read is told.
func TestShippingFor(t *testing.T) {
	cfg := Config{Store: testStore(t), Fleet: testFleet(t)}
	opts := toolsOptions()
	opts.Offline = true
	found, err := shippingFor(t.Context(), cfg, opts, &Root{Path: toolsRoot(t)}, testLock("acme", 1), tools.Base{Architecture: "amd64"}, []string{"/usr/bin/cmake"})
	if err != nil || len(found.Problems) != 1 || len(found.Packages["/usr/bin/cmake"]) != 0 {
		t.Errorf("got %+v, %v", found, err)
	}
}
