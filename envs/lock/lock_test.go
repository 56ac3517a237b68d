package lock

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func sample() *Lock {
	sum := strings.Repeat("ab", 32)
	return &Lock{
		Version: Version,
		Release: Release{Target: "acme", Number: 3, Created: time.Date(2026, 11, 21, 9, 12, 44, 0, time.UTC), Origin: Observed},
		Host: Host{ID: "debian", Version: "11", Codename: "bullseye", Architecture: "amd64", Libc: "glibc 2.31",
			Umask: "0022", Locale: "C.UTF-8", NoFile: 1024},
		Archives: []Archive{{Name: "debian-bullseye", URI: "http://mirror.example/debian", Suite: "bullseye",
			SignedBy: []string{"A7236886F3CCCAAD148A27F80E98404D386FA1D9"},
			Dated:    time.Date(2024, 8, 31, 10, 3, 48, 0, time.UTC)}},
		Packages: []Package{
			{Name: "zlib1g", Version: "1:1.2.11.dfsg-2", Architecture: "amd64", Archive: "debian-bullseye",
				Path: "pool/main/z/zlib/zlib1g_1.2.11.dfsg-2_amd64.deb", Size: 91312, SHA256: sum, Proof: Exact},
			{Name: "acme-agent", Version: "1.0~\"odd\"", Architecture: "all", Size: 7, SHA256: sum, Proof: Repacked, Want: "hold"},
		},
		Delta:  Delta{SHA256: sum, Size: 812332, Files: 412},
		Review: &Attachment{SHA256: sum},
		Rootfs: Rootfs{Digest: "tree1:sha256:" + sum},
	}
}

func complete() *Lock {
	l := sample()
	l.Release.Parent = l.Delta.Digest()
	l.Archives[0].InRelease = l.Delta.Digest()
	return l
}

// indexed is a lock of today, with all that may be in it.
func indexed() *Lock {
	l := complete()
	l.Index = &Attachment{SHA256: strings.Repeat("cd", 32)}
	return l
}

// first is a lock as version 1 had it.
func first() *Lock {
	l := complete()
	l.Version = 1
	return l
}

// TestGolden holds every version of the format that was ever written: each stays
// readable, is spelled the same way everywhere, and keeps the identity it had.
func TestGolden(t *testing.T) {
	index := indexed()
	index.Take, index.Delta, index.Rootfs = TakeIndex, Delta{}, Rootfs{}
	for _, g := range []struct {
		name     string
		lock     *Lock
		identity string
	}{
		{"1", first(), "523024428975b8c8a6ffd44c9dcf14c17c903045cb1dd6d3c3ede6e608207bab"},
		{"2", indexed(), "523024428975b8c8a6ffd44c9dcf14c17c903045cb1dd6d3c3ede6e608207bab"},
		{"2-index", index, "ba3e0a1394b148dda3484633be4b6f3e35d067fe9c6af46b2b62507515f8bb13"},
	} {
		l := golden(t, g.name, g.lock)
		text := l.Write()
		if id := Identity(text); id.Encoded() != g.identity {
			t.Errorf("%s: its identity became %s", g.name, id)
		}
		h, err := ReadHeader(text)
		if err != nil || h.Host != l.Host || h.Release != l.Release || h.Index.Digest() != l.Index.Digest() {
			t.Errorf("%s: header: %+v, %v", g.name, h, err)
		}
	}
}

// golden compares a lock with a golden file, and reads that.
func golden(t *testing.T, name string, l *Lock) *Lock {
	t.Helper()
	path := "testdata/" + name + ".lock"
	data := l.Write()
	if *update {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s: the spelling changed:\n%s", name, data)
	}
	l, err = Read(want)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !bytes.Equal(l.Write(), want) {
		t.Errorf("%s: reading and writing isn't the identity", name)
	}
	return l
}

// A lock that knows the host's kernel is as canonical as any; one that doesn't is spelled
// as before there was a kernel in it.
func TestKernel(t *testing.T) {
	l := first()
	l.Host.Kernel = "5.10.0-28-amd64"
	l.Kernel = &Kernel{Version: "Linux version 5.10.0-28-amd64 (builder@mirror.example) #1 SMP Debian 5.10.209-2 (2024-01-31)",
		SystemCalls: []string{"write", "openat2", "read"}}
	got := golden(t, "1-kernel", l)
	data := l.Write()
	if !slices.Equal(got.Kernel.SystemCalls, []string{"openat2", "read", "write"}) || got.Kernel.Version != l.Kernel.Version {
		t.Errorf("read %+v", got.Kernel)
	}
	h, err := ReadHeader(data)
	if err != nil || h.Host != got.Host {
		t.Errorf("header: %+v, %v", h, err)
	}
	if k, err := h.Kernel(); err != nil || !slices.Equal(k.SystemCalls, got.Kernel.SystemCalls) {
		t.Errorf("header: %+v, %v", k, err)
	}
	if h, err = ReadHeader(complete().Write()); err != nil {
		t.Error(err)
	} else if k, err := h.Kernel(); k != nil || err != nil {
		t.Errorf("header without a kernel: %+v, %v", k, err)
	}
	base := Identity(data)
	for name, fn := range map[string]func(*Kernel){
		"version": func(k *Kernel) { k.Version += "+1" },
		"calls":   func(k *Kernel) { k.SystemCalls = k.SystemCalls[1:] },
	} {
		k := *got.Kernel
		fn(&k)
		if l.Kernel = &k; Identity(l.Write()) == base {
			t.Errorf("%s doesn't move the identity", name)
		}
	}
	l.Kernel = &Kernel{SystemCalls: []string{"no call"}}
	if _, err := Read(l.Write()); err == nil {
		t.Error("a call that is none is read")
	}
	for _, empty := range []*Kernel{nil, {}} {
		if l.Kernel = empty; bytes.Contains(l.Write(), []byte("[kernel]")) {
			t.Errorf("%v is written", empty)
		}
	}
}

func TestIdentity(t *testing.T) {
	base := Identity(indexed().Write())
	change := func(fn func(*Lock)) bool {
		l := indexed()
		fn(l)
		return Identity(l.Write()) != base
	}
	same := map[string]func(*Lock){
		"number":      func(l *Lock) { l.Release.Number = 9 },
		"created":     func(l *Lock) { l.Release.Created = time.Now() },
		"parent":      func(l *Lock) { l.Release.Parent = "" },
		"review":      func(l *Lock) { l.Review.SHA256 = strings.Repeat("00", 32) },
		"review gone": func(l *Lock) { l.Review = nil },
		"index":       func(l *Lock) { l.Index.SHA256 = strings.Repeat("00", 32) },
		"index gone":  func(l *Lock) { l.Index = nil },
		"version 1":   func(l *Lock) { l.Version, l.Index = 1, nil },
		"order":       func(l *Lock) { l.Packages[0], l.Packages[1] = l.Packages[1], l.Packages[0] },
	}
	for name, fn := range same {
		if change(fn) {
			t.Errorf("%s moves the identity", name)
		}
	}
	other := map[string]func(*Lock){
		"version": func(l *Lock) { l.Packages[0].Version += "+1" },
		"delta":   func(l *Lock) { l.Delta.Size++ },
		"umask":   func(l *Lock) { l.Host.Umask = "0077" },
		"rootfs":  func(l *Lock) { l.Rootfs.Digest = "tree1:sha256:" + strings.Repeat("00", 32) },
	}
	for name, fn := range other {
		if !change(fn) {
			t.Errorf("%s doesn't move the identity", name)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	good := string(indexed().Write())
	var edited *EditedError
	var newer *VersionError
	for name, c := range map[string]struct {
		text string
		as   any
		says string
	}{
		"comment":      {text: "# mine\n" + good, as: &edited},
		"spaces":       {text: strings.Replace(good, "size = 7", "size  =  7", 1), as: &edited},
		"newer":        {text: strings.Replace(good, "version = 2", "version = 99\nwarp = true", 1), as: &newer},
		"unknown key":  {text: good + "warp = true\n", says: "rootfs.warp"},
		"merge":        {text: strings.Replace(good, "size = 7", "<<<<<<< HEAD", 1), says: "line"},
		"short digest": {text: strings.Replace(good, `sha256 = "ab`, `sha256 = "`, 1), says: "SHA-256"},
		"index in 1":   {text: strings.Replace(good, "version = 2", "version = 1", 1), says: "no [index]"},
		"index":        {text: strings.Replace(good, `sha256 = "cd`, `sha256 = "`, 1), says: "index"},
		"path":         {text: strings.Replace(good, `path = "pool/`, `path = "../../`, 1), says: "impossible path"},
		"archive":      {text: strings.Replace(good, `archive = "debian`, `archive = "other`, 1), says: "unknown archive"},
	} {
		_, err := Read([]byte(c.text))
		switch {
		case err == nil:
			t.Errorf("%s: accepted", name)
		case c.as != nil && !errors.As(err, c.as):
			t.Errorf("%s: %v", name, err)
		case !errors.As(err, new(interface{ Hint() string })):
			t.Errorf("%s: %v has no way out", name, err)
		case !strings.Contains(err.Error(), c.says):
			t.Errorf("%s: %v doesn't say %q", name, err, c.says)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(first().Write())
	f.Add(indexed().Write())
	f.Add([]byte("version = 1\n"))
	known := complete()
	known.Kernel = &Kernel{Version: "Linux version 5.10", SystemCalls: []string{"read", "write"}}
	f.Add(known.Write())
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Read(data)
		if err != nil {
			return
		}
		if h, err := ReadHeader(data); err != nil || h.Index.Digest() != l.Index.Digest() {
			t.Fatalf("header: %+v, %v", h, err)
		}
		again, err := Read(l.Write())
		if err != nil || !bytes.Equal(again.Write(), data) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

// A lock that says how much it took is as canonical as any; one that doesn't is spelled
// as before there were levels.
func TestTake(t *testing.T) {
	index := complete()
	index.Take, index.Delta, index.Rootfs = TakeIndex, Delta{}, Rootfs{}
	minimal := complete()
	minimal.Take = TakeMinimal
	for _, l := range []*Lock{index, minimal} {
		got, err := Read(l.Write())
		if err != nil {
			t.Fatal(err)
		}
		if got.Take != l.Take || got.Delta != l.Delta || Identity(l.Write()) == Identity(complete().Write()) {
			t.Errorf("%s: read %+v", l.Take, got)
		}
		if h, err := ReadHeader(l.Write()); err != nil || h.Take != l.Take {
			t.Errorf("%s: the header says %q, %v", l.Take, h.Take, err)
		}
	}
	// Where no file left, nothing else than the index tells of the host's.
	before := Identity(index.Write())
	index.Index = &Attachment{SHA256: strings.Repeat("cd", 32)}
	if Identity(index.Write()) == before {
		t.Error("an index that is all there is doesn't move the identity")
	}
	unknown := complete()
	unknown.Take = "everything"
	if _, err := Read(unknown.Write()); err == nil {
		t.Error("an unknown level is read")
	}
}
