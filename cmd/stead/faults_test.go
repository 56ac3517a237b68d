package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/lock"
)

// The answers of a server that are no use.
var (
	notFound fault = func(_ int, w http.ResponseWriter, r *http.Request, _ []byte) { http.NotFound(w, r) }
	broken   fault = func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) {
		http.Error(w, "broken", http.StatusInternalServerError)
	}
	brokenTwice fault = func(n int, w http.ResponseWriter, r *http.Request, content []byte) {
		if n > 2 {
			http.ServeContent(w, r, "", written, bytes.NewReader(content))
			return
		}
		http.Error(w, "broken", http.StatusInternalServerError)
	}
	trickle fault = func(_ int, w http.ResponseWriter, _ *http.Request, content []byte) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		for step := len(content)/10 + 1; len(content) > 0; {
			n, _ := w.Write(content[:min(step, len(content))])
			content = content[n:]
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	}
	// stalled sends some, nothing for a while, and then hangs up; what it is asked for
	// then it sends whole.
	stalled fault = func(n int, w http.ResponseWriter, r *http.Request, content []byte) {
		if n > 1 || r.Method == http.MethodHead {
			http.ServeContent(w, r, "", written, bytes.NewReader(content))
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Write(content[:len(content)/2]) //nolint:errcheck // it hangs up in any case
		w.(http.Flusher).Flush()
		time.Sleep(300 * time.Millisecond)
		panic(http.ErrAbortHandler)
	}
	shorter fault = func(_ int, w http.ResponseWriter, _ *http.Request, content []byte) {
		w.Write(content[:len(content)-100]) //nolint:errcheck // the client's to complain
	}
	// cutShort promises the whole body each time and never gets there.
	cutShort fault = func(_ int, w http.ResponseWriter, _ *http.Request, content []byte) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Write(content[:len(content)-100]) //nolint:errcheck // as above
	}
	longer fault = func(_ int, w http.ResponseWriter, _ *http.Request, content []byte) {
		w.Write(content)             //nolint:errcheck // as above
		w.(http.Flusher).Flush()     // without a length
		w.Write(make([]byte, 4_000)) //nolint:errcheck // as above
	}
	altered fault = func(_ int, w http.ResponseWriter, _ *http.Request, content []byte) {
		other := bytes.Clone(content)
		other[len(other)/2] ^= 1
		w.Write(other) //nolint:errcheck // as above
	}
)

// resigned is signed text with another word in it.
var resigned fault = func(_ int, w http.ResponseWriter, _ *http.Request, content []byte) {
	w.Write(bytes.Replace(content, []byte("Label: Small"), []byte("Label: Smell"), 1)) //nolint:errcheck // as above
}

const (
	libDeb   = "pool/main/lib07_1.0-1_amd64.deb"
	inDeb    = suiteDir + "InRelease"
	indexDeb = suiteDir + "main/binary-amd64/Packages.xz"
)

// serverFaults are what an archive does wrong with one file.
var serverFaults = []struct {
	name     string
	file     string
	fault    fault
	snapshot []string // parts of the error; nil: it works
	repacked string   // part of the reason why lib07 was built from the host's files
	pull     []string // as snapshot
	counts   bool     // the fault changes with what was asked for
}{
	{name: "package 404", file: libDeb, fault: notFound, repacked: libDeb + ": the server answered 404",
		pull: []string{"lib07 1.0-1", libDeb, "404"}},
	{name: "package 500", file: libDeb, fault: broken,
		snapshot: []string{"lib07 1.0-1", libDeb, "500"}, pull: []string{"lib07 1.0-1", libDeb, "500"}},
	{name: "package 500 twice", file: libDeb, fault: brokenTwice, counts: true},
	{name: "package slowly", file: libDeb, fault: trickle},
	{name: "package stalled", file: libDeb, fault: stalled, counts: true},
	{name: "package shorter", file: libDeb, fault: shorter,
		snapshot: []string{"lib07 1.0-1", libDeb, "bytes instead of"}, pull: []string{"lib07 1.0-1", libDeb, "bytes instead of"}},
	{name: "package cut", file: libDeb, fault: cutShort,
		snapshot: []string{"lib07 1.0-1", libDeb, "cut after"}, pull: []string{"lib07 1.0-1", libDeb, "cut after"}},
	{name: "package longer", file: libDeb, fault: longer,
		snapshot: []string{"lib07 1.0-1", libDeb, "more than"}, pull: []string{"lib07 1.0-1", libDeb, "more than"}},
	{name: "package altered", file: libDeb, fault: altered,
		snapshot: []string{"lib07 1.0-1", libDeb, "its bytes are others"}, pull: []string{"lib07 1.0-1", libDeb, "its bytes are others"}},
	{name: "index altered", file: indexDeb, fault: altered, snapshot: []string{indexDeb, "its bytes are others"}},
	{name: "index shorter", file: indexDeb, fault: shorter, snapshot: []string{indexDeb, "bytes instead of"}},
	{name: "index 500", file: indexDeb, fault: broken, snapshot: []string{indexDeb, "500"}},
	{name: "InRelease altered", file: inDeb, fault: resigned, snapshot: []string{"/debian stable", "checking its InRelease", "signature"}},
	{name: "InRelease shorter", file: inDeb, fault: shorter, snapshot: []string{"/debian stable", "it is no clear-signed message"}},
	{name: "InRelease 500", file: inDeb, fault: broken, snapshot: []string{inDeb, "500"}},
	{name: "InRelease 500 twice", file: inDeb, fault: brokenTwice, counts: true},
}

// TestFaults lets go wrong what does go wrong.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := smallHost(t)
	s.in(t, "server", testServerFaults)
	s.in(t, "blobs", testDamagedBlobs)
	s.in(t, "full", testFullDisk)
	s.in(t, "races", testRaces)
	s.in(t, "locks", testEditedLocks)
	s.in(t, "reach", testReach)
}

// fails wants a command that ends with exit code 1 and one error that names all parts.
func (s *small) fails(what string, parts []string, stderr string, code int) {
	s.t.Helper()
	if code != exitError {
		s.t.Errorf("%s: exit code %d, want %d\n%s", what, code, exitError, stderr)
	}
	if strings.Count(stderr, "error: ") != 1 {
		s.t.Errorf("%s: not one error:\n%s", what, stderr)
	}
	_, text, _ := strings.Cut(stderr, "error: ")
	s.t.Logf("%s: %s", what, strings.TrimSpace(text))
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.t.Errorf("%s: the error doesn't name %q:\n%s", what, part, stderr)
		}
	}
}

// works wants a command that did.
func (s *small) works(what, stderr string, code int) {
	s.t.Helper()
	if code != 0 {
		s.t.Errorf("%s: exit code %d\n%s", what, code, stderr)
	}
}

// noRelease fails where a snapshot that failed added one, or left its work.
func (s *small) noRelease(what, fleet, store string) {
	s.t.Helper()
	for _, name := range s.list(fleet, "acme") {
		if strings.HasSuffix(name, ".lock") {
			s.t.Errorf("%s: a release was added: %s", what, name)
		}
	}
	s.sound(fleet, store)
	s.clean(fleet, store)
}

// noEnv fails where a pull that failed made one, or left its work.
func (s *small) noEnv(what, fleet, store string) {
	s.t.Helper()
	if roots := s.list(store, "roots"); len(roots) > 0 {
		s.t.Errorf("%s: an env was made: %s", what, roots)
	}
	s.sound(fleet, store)
	s.clean(fleet, store)
}

func testServerFaults(s *small) {
	want := s.identities("reference")
	defer s.mirror.set(nil)
	for i, f := range serverFaults {
		s.mirror.set(map[string]fault{f.file: f.fault})
		fleet, store, puller := fmt.Sprint("fleet-", i), fmt.Sprint("store-", i), fmt.Sprint("puller-", i)
		pulled := make(chan outcome)
		go func() { pulled <- atOnce(s.command("reference", puller, "pull", "acme"))[0] }()
		if f.counts {
			o := <-pulled
			pulled = make(chan outcome, 1)
			pulled <- o
			s.mirror.set(map[string]fault{f.file: f.fault})
		}
		what := "snapshot, " + f.name
		out, errs, code := s.snapshot(fleet, store)
		p := <-pulled
		if f.pull != nil {
			s.fails("pull, "+f.name, f.pull, p.stderr, p.code)
			s.noEnv("pull, "+f.name, "reference", puller)
		} else {
			s.works("pull, "+f.name, p.stderr, p.code)
		}
		switch {
		case f.snapshot != nil:
			s.fails(what, f.snapshot, errs, code)
			s.noRelease(what, fleet, store)
		case f.repacked != "":
			s.works(what, errs, code)
			if !strings.Contains(errs, "repacked lib07 1.0-1: ") || !strings.Contains(errs, f.repacked) {
				s.t.Errorf("%s: the reason isn't told:\n%s%s", what, out, errs)
			}
		default:
			s.works(what, errs, code)
		}
		s.mirror.set(nil)
		if f.repacked == "" {
			_, errs, code = s.snapshot(fleet, store)
			s.works("the next "+what, errs, code)
			if got := s.identities(fleet); len(got) != 1 || got[0] != want[0] {
				s.t.Errorf("%s: the next one's releases are %v instead of %v", what, got, want)
			}
		}
		s.must(s.command(fleet, puller, "pull", "acme"))
		s.clean(fleet, puller)
		s.remove(fleet, store, puller)
	}
}

// damage alters or truncates a file, keeping its size in the first case.
var damage = map[string]func(path string) error{
	"altered": func(path string) error {
		content, err := os.ReadFile(path)
		if err == nil {
			content[len(content)/2] ^= 1
			err = os.WriteFile(path, content, 0o600)
		}
		return err
	},
	"truncated": func(path string) error {
		fi, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, fi.Size()/2)
		}
		return err
	},
	"empty": func(path string) error { return os.Truncate(path, 0) },
}

// release reads the only lock of a fleet.
func (s *small) release(fleet string) *lock.Lock {
	s.t.Helper()
	text, err := os.ReadFile(s.path(fleet, "acme", "1.lock"))
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// blob is where a folder has a blob.
func (s *small) blob(dir, sum string) string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "sha256", sum+"*"))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("blob %s of %s: %v, %v", sum, dir, found, err)
	}
	return found[0]
}

// testDamagedBlobs damages what is at hand. What an archive has is fetched again;
// what only the fleet has is an error that names it.
func testDamagedBlobs(s *small) {
	l := s.release("reference")
	sums := map[string]string{"the delta": l.Delta.SHA256}
	for _, p := range l.Packages {
		if p.Name == "lib07" || p.Name == "acme-agent" {
			sums[p.Name] = p.SHA256
		}
	}
	for kind, do := range damage {
		for name, sum := range sums {
			what := name + " " + kind
			s.must(s.command("reference", "good", "pull", "acme"))
			s.remove("good/trees", "good/roots")
			if err := do(s.blob(s.path("good/blobs"), sum)); err != nil {
				s.t.Fatal(err)
			}
			_, errs, code := result(s.command("reference", "good", "pull", "acme"))
			s.works("in the store: "+what, errs, code)
			s.must(s.command("reference", "good", "fsck", "acme"))
			s.sound("reference", "good")
			s.clean("reference", "good")
			s.remove("good")
			if name == "lib07" {
				continue
			}
			s.must(s.command("reference", "lead", "pull", "acme")) // what makes the fleet whole again
			s.remove("bad")
			s.must(copyTree(s.path("reference"), s.path("bad")))
			if err := do(s.blob(s.path("bad/blobs"), sum)); err != nil {
				s.t.Fatal(err)
			}
			_, errs, code = result(s.command("bad", "empty", "pull", "acme"))
			s.fails("in the fleet: "+what, []string{name, s.path("bad/blobs"), sum, "hint: restore it"}, errs, code)
			if roots := s.list("empty", "roots"); len(roots) > 0 {
				s.t.Errorf("in the fleet: %s: an env was made", what)
			}
			s.must(s.command("reference", "empty", "pull", "acme"))
			s.clean("reference", "empty")
			s.remove("empty", "bad", "lead")
		}
	}
}

// tmpfs mounts a file system of so many bytes for a while.
func (s *small) tmpfs(name string, bytes int64) (unmount func()) {
	s.t.Helper()
	dir := s.path(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := unix.Mount("stead-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		s.t.Skipf("mounting a small file system: %v", err)
	}
	var once sync.Once
	unmount = func() {
		once.Do(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				s.t.Errorf("unmounting %s: %v", dir, err)
			}
		})
	}
	s.t.Cleanup(unmount)
	return unmount
}

// testFullDisk fills the disk at many points of a run.
func testFullDisk(s *small) {
	full := []string{"no space left on device"}
	for _, size := range []int64{64 << 10, 1 << 20, 5 << 20, 20 << 20, 40 << 20, 60 << 20} {
		what := fmt.Sprintf("a store of %d kB", size>>10)
		unmount := s.tmpfs("full", size)
		_, errs, code := s.snapshot("fleet", "full")
		s.fails("snapshot into "+what, full, errs, code)
		s.noRelease("snapshot into "+what, "fleet", "full")
		s.remount("full", 1<<30)
		_, errs, code = s.snapshot("fleet", "full")
		s.works("snapshot with room again", errs, code)
		s.clean("fleet", "full")
		unmount()
		s.remove("fleet", "full")

		unmount = s.tmpfs("full", size)
		_, errs, code = result(s.command("reference", "full", "pull", "acme"))
		s.fails("pull into "+what, full, errs, code)
		s.noEnv("pull into "+what, "reference", "full")
		s.remount("full", 1<<30)
		_, errs, code = result(s.command("reference", "full", "pull", "acme"))
		s.works("pull with room again", errs, code)
		s.must(s.command("reference", "full", "fsck", "acme"))
		unmount()
		s.remove("full")
	}
	for _, size := range []int64{4 << 10, 256 << 10, 1 << 20} {
		what := fmt.Sprintf("a fleet of %d kB", size>>10)
		unmount := s.tmpfs("fleet", size)
		_, errs, code := s.snapshot("fleet", "store")
		s.fails("snapshot into "+what, full, errs, code)
		s.noRelease("snapshot into "+what, "fleet", "store")
		s.remount("fleet", 1<<30)
		_, errs, code = s.snapshot("fleet", "store")
		s.works("snapshot with room again", errs, code)
		s.sound("fleet", "store")
		s.must(s.command("fleet", "other", "pull", "acme"))
		unmount()
		s.remove("fleet", "store", "other")
	}
}

// remount gives a file system another size.
func (s *small) remount(name string, bytes int64) {
	s.t.Helper()
	if err := unix.Mount("stead-test", s.path(name), "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", bytes)); err != nil {
		s.t.Fatal(err)
	}
}
