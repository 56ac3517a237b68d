package envs

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // dpkg's sums
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

// restless is a host to which something happens while it is read.
type restless struct {
	snapshot.Host
	before func(path string)
	breaks map[string]bool // reading fails in the middle
}

var errBreak = errors.New("input/output error")

type breaking struct{}

func (breaking) Read([]byte) (int, error) { return 0, errBreak }

func (h *restless) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	for _, p := range paths {
		if h.before != nil {
			h.before(p)
		}
		err := h.Host.Read(ctx, []string{p}, func(p string, r io.Reader, err error) error {
			if h.breaks[p] && err == nil {
				r = io.MultiReader(io.LimitReader(r, 1), breaking{})
			}
			return fn(p, r, err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lead is somebody who takes snapshots of a small host: one package that no archive
// has, and some files.
type lead struct {
	t    *testing.T
	root string
	cfg  Config
	wire bool
	pool []archive.Pool
}

func newLead(t *testing.T) *lead {
	b := &lead{t: t, root: t.TempDir()}
	st, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	b.cfg = Config{Store: st, Fleet: testFleet(t), Jobs: 2}
	list, sums := "/.\n/usr\n/usr/bin\n/usr/share\n/usr/share/agent\n", ""
	for p, c := range map[string]string{"usr/bin/agent": "agent\n", "usr/share/agent/data": "data\n", "usr/share/agent/other": "other\n"} {
		b.put(p, c)
		list += "/" + p + "\n"
		sums += fmt.Sprintf("%x  %s\n", md5.Sum([]byte(c)), p) //nolint:gosec // as above
	}
	for p, c := range map[string]string{
		"var/lib/dpkg/status":             "Package: agent\nStatus: install ok installed\nVersion: 1.0\nArchitecture: amd64\nMaintainer: x\nDescription: x\n\n",
		"var/lib/dpkg/info/agent.list":    list,
		"var/lib/dpkg/info/agent.md5sums": sums,
		"var/lib/dpkg/info/format":        "1\n",
		"etc/passwd":                      "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":                       "root:x:0:\n",
		"usr/lib/os-release":              "ID=debian\nVERSION_ID=\"11\"\nVERSION_CODENAME=bullseye\n",
		"etc/app.conf":                    "key = one\n",
		"opt/x/made":                      "AAAA\n",
	} {
		b.put(p, c)
	}
	return b
}

func (b *lead) put(p, content string) {
	b.t.Helper()
	at := filepath.Join(b.root, p)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *lead) link(p, to string) {
	b.t.Helper()
	at := filepath.Join(b.root, to)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Link(filepath.Join(b.root, p), at)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *lead) snapshot(h *restless) (*SnapshotResult, error) {
	b.t.Helper()
	d, err := host.Folder(b.root)
	if err != nil {
		b.t.Fatal(err)
	}
	defer d.Close()
	h.Host = d
	rules, err := scrub.New(nil, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return Snapshot(b.t.Context(), b.cfg, h, SnapshotOptions{Target: "acme", Address: b.root, Readers: pkgdb.Readers, Rules: rules, Wire: b.wire, Pools: b.pool})
}

// taken is a snapshot that has to work, and can be pulled. It gives the root.
func (b *lead) taken(h *restless) (*SnapshotResult, string) {
	b.t.Helper()
	r, err := b.snapshot(h)
	if err != nil {
		b.t.Fatal(err)
	}
	root, err := Pull(b.t.Context(), b.cfg, r.Release)
	if err != nil {
		b.t.Fatalf("%s can't be pulled: %v", r.Name, err)
	}
	return r, root.Path
}

// once calls fn before the first read of a path.
func once(path string, fn func()) func(string) {
	done := false
	return func(p string) {
		if p == path && !done {
			done = true
			fn()
		}
	}
}

// A file that was remembered is written to, with the same size, before it is stored:
// no release may name the old content and hold the new one, now or later.
func TestRememberedFileChanges(t *testing.T) {
	for _, wire := range []bool{false, true} {
		b := newLead(t)
		b.wire = wire
		r, _ := b.taken(&restless{})
		b.put("etc/app.conf", "key = 111\n") // the delta is written again
		if wire {                            // and nothing of it is at hand
			trees := filepath.Join(b.cfg.Store.Dir(), "trees")
			if err := errors.Join(os.RemoveAll(trees), os.Mkdir(trees, 0o700), b.cfg.Store.DropBlob(r.Delta.Digest())); err != nil {
				t.Fatal(err)
			}
		}
		_, err := b.snapshot(&restless{before: once("etc/passwd", func() { b.put("opt/x/made", "BBBB\n") })})
		var changed *ChangedError
		if !errors.As(err, &changed) || changed.Path != "opt/x/made" {
			t.Fatalf("wire %v: %v", wire, err)
		}
		b.put("opt/x/made", "AAAA\n")
		b.taken(&restless{})
	}
}

func TestRepackedFileChanges(t *testing.T) {
	b := newLead(t)
	b.taken(&restless{})
	b.put("usr/bin/agent", "AGENT\n") // the package is built again
	_, err := b.snapshot(&restless{before: once("usr/bin/agent", func() { b.put("usr/share/agent/other", "OTHER\n") })})
	var changed *ChangedError
	if !errors.As(err, &changed) || changed.Path != "usr/share/agent/other" {
		t.Fatal(err)
	}
	b.taken(&restless{})
}

// The file of a repacked package is damaged: it is built again.
func TestRepackedBlobIsDamaged(t *testing.T) {
	b := newLead(t)
	r, _ := b.taken(&restless{})
	l, err := r.Release.Lock()
	if err != nil {
		t.Fatal(err)
	}
	blob, _, _ := b.cfg.Store.BlobPath(l.Packages[0].Digest())
	if err := errors.Join(os.Truncate(blob, 10), os.RemoveAll(filepath.Join(b.cfg.Store.Dir(), "trees"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(b.cfg.Store.Dir(), "trees"), 0o700); err != nil {
		t.Fatal(err)
	}
	if again, _ := b.taken(&restless{}); again.New {
		t.Error("an unchanged host made a release")
	}
}

// What a pool has under a package's name, and is none, doesn't keep the package from
// being built from the host's files.
func TestDamagedPool(t *testing.T) {
	b := newLead(t)
	dir := t.TempDir()
	for _, content := range []string{"", "!<arch>\n", "nothing of the kind"} {
		if err := os.WriteFile(filepath.Join(dir, "agent_1.0_amd64.deb"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		pool, err := archive.OpenPool(dir)
		if err != nil {
			t.Fatal(err)
		}
		b.pool = []archive.Pool{pool}
		if r, _ := b.taken(&restless{}); r.Packages["repacked"] != 1 {
			t.Errorf("%q: %v", content, r.Packages)
		}
	}
}

func TestRecordBreaks(t *testing.T) {
	b := newLead(t)
	d, err := host.Folder(b.root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const record = "var/lib/dpkg/info/agent.list"
	s := &snapshotter{cfg: b.cfg, host: &restless{Host: d, breaks: map[string]bool{record: true}}}
	if _, err := s.sums(t.Context(), []string{record}); !errors.Is(err, errBreak) {
		t.Error(err)
	}
}

// What is damaged in the cache costs time and nothing else.
func TestDamagedContentsCache(t *testing.T) {
	for _, damage := range []struct{ from, to string }{{`"reason":`, `"rdason":`}, {`"sha256":"`, `"sha256":"AAAA`}, {"\n", ""}} {
		b := newLead(t)
		b.put("etc/secret.conf", "password = correct-horse-battery\n")
		b.taken(&restless{})
		files, err := filepath.Glob(filepath.Join(b.cfg.Store.Dir(), "cache", "contents-*"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Replace(text, []byte(damage.from), []byte(damage.to), 1)
		if len(damage.to) > len(damage.from) { // overwritten, not inserted
			i := bytes.Index(text, []byte(damage.from))
			damaged = append(bytes.Clone(text[:i]), damage.to...)
			damaged = append(damaged, text[len(damaged):]...)
		}
		if bytes.Equal(damaged, text) {
			t.Fatalf("no %q there", damage.from)
		}
		if err := os.WriteFile(files[0], damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, root := b.taken(&restless{}); r.New || fileExists(filepath.Join(root, "etc/secret.conf")) {
			t.Errorf("%q: new %v, or a secret left", damage.to, r.New)
		}
	}
}

// A file is judged under each of its names; where one may not leave for the name itself,
// nothing changes for the others.
func TestLinkedSecrets(t *testing.T) {
	b := newLead(t)
	const secret = "password = correct-horse-battery\n"
	b.put("bin/tool.py", secret)
	b.link("bin/tool.py", "etc/tool.conf")
	b.put("bin/glpat-q8Rt5Yw2Zx7Kc4Vb1Nm9.py", secret)
	b.link("bin/glpat-q8Rt5Yw2Zx7Kc4Vb1Nm9.py", "etc/other.conf")
	b.put("bin/glpat-q8Rt5Yw2Zx7Kc4Vb1Nm8.py", "print(1)\n")
	b.link("bin/glpat-q8Rt5Yw2Zx7Kc4Vb1Nm8.py", "usr/bin/plain.py")
	b.link("bin/glpat-q8Rt5Yw2Zx7Kc4Vb1Nm8.py", "usr/bin/same.py")
	_, root := b.taken(&restless{})
	for _, p := range []string{"bin/tool.py", "etc/tool.conf", "etc/other.conf", "bin/glpat-q8Rt5Yw2Zx7Kc4Vb1Nm8.py"} {
		if fileExists(filepath.Join(root, p)) {
			t.Errorf("%s left the host", p)
		}
	}
	for _, p := range []string{"usr/bin/plain.py", "usr/bin/same.py"} {
		if !fileExists(filepath.Join(root, p)) {
			t.Errorf("%s is missing", p)
		}
	}
}

// What can't be read once may be read the next time, in the same snapshot.
func TestReadFailsOnce(t *testing.T) {
	b := newLead(t)
	const path = "usr/share/agent/data"
	b.put(path, "DATA\n") // not as the package brought it: the package and the delta want it
	h := &restless{breaks: map[string]bool{path: true}}
	reads := 0
	h.before = func(p string) {
		if p == path {
			if reads++; reads > 1 {
				h.breaks = nil
			}
		}
	}
	if r, _ := b.taken(h); reads > 1 && len(r.Unreadable) > 0 {
		t.Errorf("%v after %d reads", r.Unreadable, reads)
	}
}
