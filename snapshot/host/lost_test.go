package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// noisy makes files that no compression shortens, and returns their names and contents.
func noisy(t testing.TB, root string, n, size int) map[string]string {
	t.Helper()
	files := map[string]string{}
	for i := range n {
		b := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(i)}).Read(b) //nolint:errcheck // it never fails
		name := fmt.Sprintf("file%03d", i)
		files[name] = string(b)
		write(t, filepath.Join(root, name), files[name])
	}
	return files
}

// readThem reads files, and checks them.
func readThem(t testing.TB, h snapshot.Host, files map[string]string) error {
	t.Helper()
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	seen := 0
	err := h.Read(t.Context(), names, func(name string, r io.Reader, err error) error {
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if seen++; string(b) != files[name] {
			t.Errorf("%s has %d other bytes", name, len(b))
		}
		return err
	})
	if err == nil && seen != len(files) {
		t.Errorf("%d files were read of %d", seen, len(files))
	}
	return err
}

// farHost is a host behind a wire that can be cut.
func farHost(t *testing.T, root string) (*hosttest.SSHD, *hosttest.Wire) {
	equip(t, root, strings.Fields(gnu)...)
	d := serveRoot(t, root)
	w := hosttest.StartWire(t, d.Port, 0)
	d.Through(t, w.Port)
	return d, w
}

// A connection that breaks is made again, and what came whole isn't sent twice.
func TestSSHBreaks(t *testing.T) {
	root := t.TempDir()
	files := noisy(t, root, 60, 500_000)
	_, w := farHost(t, root)
	w.CutAfter(12_000) // while the host is listed
	s := openSSH(t, "ssh://prod", Options{Temp: t.TempDir()})
	if _, err := s.listing(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := w.Bytes.Load()
	w.CutAfter(20_000_000)
	if err := readThem(t, s, files); err != nil {
		t.Fatal(err)
	}
	if n := w.Bytes.Load() - before; n > 37_000_000 {
		t.Errorf("%d bytes came for 30 MB", n)
	}
}

// Where it doesn't come again, there is one clear error.
func TestSSHStaysAway(t *testing.T) {
	root := t.TempDir()
	files := noisy(t, root, 3, 1000)
	d, _ := farHost(t, root)
	s := openSSH(t, "ssh://prod", Options{Temp: t.TempDir()})
	if _, err := s.listing(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = s.conn.Close()
	d.Through(t, "1")
	err := readThem(t, s, files)
	var at *ConnectError
	if !errors.As(err, &at) || at.Address != "ssh://prod" || !strings.Contains(at.Message, "Connection refused") || at.Hint() == "" {
		t.Errorf("got %v", err)
	}
}

// An interrupted snapshot goes on with what came whole; a damaged copy is asked for again.
func TestSSHResumes(t *testing.T) {
	root, cache := t.TempDir(), filepath.Join(t.TempDir(), "cache")
	files := noisy(t, root, 40, 500_000)
	_, w := farHost(t, root)
	interrupted := func(files map[string]string) *Shell {
		s := openSSH(t, "ssh://prod", Options{Temp: t.TempDir(), Cache: cache})
		if err := readThem(t, s, files); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		return s
	}
	half := map[string]string{}
	for i := range 20 {
		name := fmt.Sprintf("file%03d", i)
		half[name] = files[name]
	}
	interrupted(half)
	before := w.Bytes.Load()
	interrupted(files)
	if n := w.Bytes.Load() - before; n < 9_000_000 || n > 12_000_000 {
		t.Errorf("%d bytes came for the other 10 MB", n)
	}
	// A disk that lost a block, and a file that is another now.
	data, err := filepath.Glob(filepath.Join(cache, "*.data"))
	if err != nil || len(data) != 2 {
		t.Fatalf("%q, %v", data, err)
	}
	f, err := os.OpenFile(data[0], os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt(make([]byte, 100), 1000)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	files["file039"] = strings.Repeat("x", 500_000)
	write(t, filepath.Join(root, "file039"), files["file039"])
	before = w.Bytes.Load()
	s := interrupted(files)
	if n := w.Bytes.Load() - before; n > 2_000_000 {
		t.Errorf("%d bytes came for two files", n)
	}
	if err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cache); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of what was received is still there: %v", err)
	}
}

// What there is a copy of here isn't sent; small files are, without a question.
func TestSSHKnows(t *testing.T) {
	root := t.TempDir()
	files := noisy(t, root, 10, 500_000)
	write(t, filepath.Join(root, "small"), "small")
	files["small"] = "small"
	bySum, asked := map[string]string{}, 0
	for _, content := range files {
		sum := sha256.Sum256([]byte(content))
		bySum[hex.EncodeToString(sum[:])] = content
	}
	_, w := farHost(t, root)
	s := openSSH(t, "ssh://prod", Options{Temp: t.TempDir(), Lookup: func(sum string) (io.ReadCloser, bool) {
		asked++
		content, ok := bySum[sum]
		return io.NopCloser(strings.NewReader(content)), ok
	}})
	if err := readThem(t, s, files); err != nil {
		t.Fatal(err)
	}
	if n := w.Bytes.Load(); n > 1_000_000 || asked != 10 {
		t.Errorf("%d bytes came, and %d were looked for", n, asked)
	}
}

func TestSSHLimit(t *testing.T) {
	root := t.TempDir()
	files := noisy(t, root, 4, 250_000)
	farHost(t, root)
	s := openSSH(t, "ssh://prod", Options{Temp: t.TempDir(), Rate: 1 << 20})
	begun := time.Now()
	if err := readThem(t, s, files); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 900*time.Millisecond {
		t.Errorf("1 MB at 1 MB/s came in %s", took)
	}
}

// busybox's tar ends in the middle of a file that shrinks: the others are read all the
// same.
func TestSSHShrinks(t *testing.T) {
	root := t.TempDir()
	files := noisy(t, root, 9, 3_000_000)
	equipBusybox(t, root)
	d := serveRoot(t, root)
	w := hosttest.StartWire(t, d.Port, 20*time.Millisecond)
	d.Through(t, w.Port)
	s := openSSH(t, "ssh://prod", Options{Temp: t.TempDir(), Rate: 8 << 20})
	if _, err := s.listing(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	go func() {
		time.Sleep(400 * time.Millisecond) // while the first are on their way
		_ = os.Truncate(filepath.Join(root, "file005"), 10)
	}()
	got := map[string]bool{}
	err := s.Read(t.Context(), names, func(name string, r io.Reader, err error) error {
		if err != nil {
			if name != "file005" {
				t.Errorf("%s: %v", name, err)
			}
			return nil
		}
		b, err := io.ReadAll(r)
		if got[name] = true; string(b) != files[name] {
			t.Errorf("%s has other bytes", name)
		}
		return err
	})
	if err != nil || len(got) != 8 {
		t.Errorf("%d files, %v", len(got), err)
	}
}

func TestReceivedIsBounded(t *testing.T) {
	r, err := openReceived(filepath.Join(t.TempDir(), "received"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close() //nolint:errcheck // a test
	other, err := openReceived(r.dir, t.TempDir())
	if err != nil || other.keep || other.dir == r.dir {
		t.Errorf("two processes share what was received: %+v, %v", other, err)
	}
	r.total = maxReceived - 10
	f := snapshot.File{Path: "x", Size: 100, Type: snapshot.Regular}
	in, err := r.begin()
	if err != nil {
		t.Fatal(err)
	}
	at, err := in.write(bytes.NewReader(make([]byte, 100)), 100)
	in.done(f, at)
	if err := errors.Join(err, in.close()); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.find(f); !ok {
		t.Error("what is too much for the next run isn't there for this one")
	}
	if err := in.drop(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(r.dir); len(left) > 0 {
		t.Errorf("there is still %v", left)
	}
}
