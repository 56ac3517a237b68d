package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// sound fails where anything that a store or a fleet would be believed isn't whole.
// Whoever asks has let nothing run that could repair it.
func (s *small) sound(fleet, store string) {
	s.t.Helper()
	s.soundBlobs(s.path(store, "blobs", "sha256"))
	sums := map[uint64]string{} // by inode: roots are links into trees
	for _, kind := range []string{"trees", "roots"} {
		for _, dir := range s.list(store, kind) {
			s.soundItem(s.path(store, kind, dir), sums)
		}
	}
	s.soundBlobs(s.path(fleet, "blobs", "sha256"))
	for _, name := range s.list(fleet, "acme") {
		if strings.HasSuffix(name, ".lock") {
			s.soundRelease(fleet, s.path(fleet, "acme", name))
		}
	}
}

// list are the names in a folder; none where it isn't there.
func (s *small) list(elem ...string) []string {
	s.t.Helper()
	entries, err := os.ReadDir(s.path(elem...))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (s *small) soundBlobs(dir string) {
	s.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") { // never read
			continue
		}
		want, _, _ := strings.Cut(e.Name(), ".")
		if got, err := sumBlob(filepath.Join(dir, e.Name())); err != nil || got != want {
			s.t.Errorf("blob %s has the digest %s, %v", filepath.Join(dir, e.Name()), got, err)
		}
	}
}

func sumBlob(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".zst") {
		dec, err := zstd.NewReader(f)
		if err != nil {
			return "", err
		}
		defer dec.Close()
		r = dec
	}
	h := sha256.New()
	_, err = io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// soundItem compares an item with its own manifest.
func (s *small) soundItem(dir string, sums map[uint64]string) {
	s.t.Helper()
	it := store.Item{Dir: dir}
	m, err := it.Manifest()
	if err != nil {
		s.t.Errorf("half an item: %v", err)
		return
	}
	seen := 0
	err = filepath.WalkDir(it.Root(), func(string, fs.DirEntry, error) error { seen++; return nil })
	if err != nil || seen != len(m) {
		s.t.Errorf("%s has %d entries and its manifest %d, %v", dir, seen, len(m), err)
	}
	for _, f := range m {
		if f.Type != snapshot.Regular {
			continue
		}
		name := filepath.Join(it.Root(), f.Path)
		var st syscall.Stat_t
		if err := syscall.Lstat(name, &st); err != nil {
			s.t.Errorf("half an item: %v", err)
			continue
		}
		if sums[st.Ino] == "" {
			if sums[st.Ino], err = sumBlob(name); err != nil {
				s.t.Error(err)
			}
		}
		if sums[st.Ino] != f.Digest {
			s.t.Errorf("%s has the digest %s instead of %s", name, sums[st.Ino], f.Digest)
		}
	}
}

// soundRelease reads a lock, and finds all that only this fleet has of it.
func (s *small) soundRelease(fleet, name string) {
	s.t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		s.t.Errorf("%s: %v", name, err)
		return
	}
	need := map[string]digest.Digest{"delta": l.Delta.Digest()}
	for _, a := range l.Archives {
		need["InRelease of "+a.Name] = a.InRelease
	}
	for _, p := range l.Packages {
		if p.Proof == lock.Repacked {
			need[p.Name] = p.Digest()
		}
	}
	for what, d := range need {
		if !(store.Folder{Dir: s.path(fleet, "blobs")}).Has(d) {
			s.t.Errorf("%s was written before its %s", name, what)
		}
	}
}

// clean fails where a finished command left something half-made behind.
func (s *small) clean(fleet, store string) {
	s.t.Helper()
	if left := s.list(store, "work"); len(left) > 0 {
		s.t.Errorf("the store's work/ holds %v", left)
	}
	for _, dir := range []string{"acme", "blobs/sha256"} {
		for _, name := range s.list(fleet, dir) {
			if strings.HasPrefix(name, ".") {
				s.t.Errorf("the fleet's %s holds %s", dir, name)
			}
		}
	}
}

// identities are those of a fleet's releases, in order of their numbers.
func (s *small) identities(fleet string) []digest.Digest {
	s.t.Helper()
	var ids []digest.Digest
	for n := 1; ; n++ {
		text, err := os.ReadFile(s.path(fleet, "acme", fmt.Sprint(n, ".lock")))
		if os.IsNotExist(err) {
			return ids
		} else if err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, lock.Identity(text))
	}
}
