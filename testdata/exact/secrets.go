package main

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// scanSecrets reads every file below the folders, as it is and decompressed, and reports
// each one that holds a planted secret.
func scanSecrets(w io.Writer, planted []secret, dirs []string) (bool, error) {
	c := &scanner{pattern: newPattern(planted)}
	paths := make(chan string)
	var (
		group sync.WaitGroup
		lock  sync.Mutex
		found int
		errs  []error
	)
	for range 4 {
		group.Go(func() {
			for path := range paths {
				hits, err := c.file(path)
				lock.Lock()
				for _, s := range hits {
					found++
					fmt.Fprintf(w, "%q holds the secret of /%s\n", path, s.path)
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", path, err))
				}
				lock.Unlock()
			}
		})
	}
	files := 0
	seen := map[[2]uint64]bool{}
	for _, dir := range dirs {
		errs = append(errs, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			var st syscall.Stat_t
			if err != nil || !d.Type().IsRegular() || syscall.Lstat(path, &st) != nil {
				return err
			}
			if inode := [2]uint64{uint64(st.Dev), st.Ino}; !seen[inode] {
				seen[inode] = true
				files++
				paths <- path
			}
			return nil
		}))
	}
	close(paths)
	group.Wait()
	fmt.Fprintf(w, "%d files searched for %d planted secrets: %d found\n", files, len(planted), found)
	return found == 0 && files > 0, errors.Join(errs...)
}

// scanner remembers what it has unpacked: stores share most of their package files.
type scanner struct {
	pattern  *pattern
	unpacked sync.Map // by SHA-256
}

func (c *scanner) file(path string) (map[string]secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hits := map[string]secret{}
	raw := &finder{pattern: c.pattern, hits: hits}
	head := make([]byte, 8)
	if n, _ := f.ReadAt(head, 0); decoder(head[:n]) == nil {
		_, err := io.Copy(raw, f)
		return hits, err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(raw, sum), f); err != nil {
		return nil, err
	}
	if _, done := c.unpacked.LoadOrStore(string(sum.Sum(nil)), true); done {
		return hits, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	c.unpack(f, hits, 3)
	return hits, nil
}

// unpack looks for secrets in what a stream decompresses or unpacks to. What turns out
// to be something else is no hiding place.
func (c *scanner) unpack(r io.Reader, hits map[string]secret, depth int) {
	in := bufio.NewReaderSize(r, 1<<18)
	head, _ := in.Peek(8)
	inner := decoder(head)
	if inner == nil || depth == 0 {
		_, _ = io.Copy(&finder{pattern: c.pattern, hits: hits}, in)
		return
	}
	_ = inner(in, func(r io.Reader) error { c.unpack(r, hits, depth-1); return nil })
}

type opener func(r io.Reader, then func(io.Reader) error) error

// decoder tells by its first bytes how a stream is packed.
func decoder(head []byte) opener {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return opened(func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
	case bytes.HasPrefix(head, []byte("BZh")):
		return opened(func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil })
	case len(head) > 1 && head[0] == 0x78 && (int(head[0])<<8|int(head[1]))%31 == 0: // git's objects
		return opened(func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) })
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return program("zstd", "-dcq")
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return program("xz", "-dcq")
	case bytes.HasPrefix(head, []byte("!<arch>\n")):
		return eachMember
	}
	return nil
}

func opened(open func(io.Reader) (io.Reader, error)) opener {
	return func(r io.Reader, then func(io.Reader) error) error {
		inner, err := open(r)
		if err != nil {
			return err
		}
		return then(inner)
	}
}

func program(name string, args ...string) opener {
	return func(r io.Reader, then func(io.Reader) error) error {
		cmd := exec.Command(name, args...)
		cmd.Stdin = r
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		return errors.Join(then(out), cmd.Wait())
	}
}

// eachMember hands on the members of an ar archive, which a .deb is.
func eachMember(r io.Reader, then func(io.Reader) error) error {
	if _, err := io.CopyN(io.Discard, r, 8); err != nil {
		return err
	}
	for {
		var header [60]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return nil
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil {
			return err
		}
		member := io.LimitReader(r, size+size%2)
		if err := then(member); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, member); err != nil {
			return err
		}
	}
}

// pattern looks for many secrets at once, as Wu and Manber do ("A fast algorithm for
// multi-pattern searching", 1994): only the first bytes of each count, as many as the
// shortest has, and pairs of bytes that are in none are jumped over.
type pattern struct {
	planted []secret
	length  int
	jump    [1 << 16]int
}

func newPattern(planted []secret) *pattern {
	p := &pattern{planted: planted, length: len(planted[0].marker)}
	for _, s := range planted {
		p.length = min(p.length, len(s.marker))
	}
	for i := range p.jump {
		p.jump[i] = p.length - 1
	}
	for _, s := range planted {
		for i := 1; i < p.length; i++ {
			pair := int(s.marker[i-1])<<8 | int(s.marker[i])
			p.jump[pair] = min(p.jump[pair], p.length-1-i)
		}
	}
	return p
}

func (p *pattern) find(b []byte, hits map[string]secret) {
	for at := p.length - 1; at < len(b); {
		jump := p.jump[int(b[at-1])<<8|int(b[at])]
		if jump > 0 {
			at += jump
			continue
		}
		for _, s := range p.planted {
			if bytes.HasPrefix(b[at-p.length+1:], s.marker[:p.length]) {
				hits[string(s.marker)] = s
			}
		}
		at++
	}
}

// finder is a writer that looks for secrets, also where they lie across writes.
type finder struct {
	pattern *pattern
	hits    map[string]secret
	tail    []byte
}

func (f *finder) Write(p []byte) (int, error) {
	keep := f.pattern.length - 1
	edge := append(f.tail, p[:min(len(p), keep)]...)
	f.pattern.find(edge, f.hits)
	f.pattern.find(p, f.hits)
	if len(p) >= keep {
		edge = p
	}
	f.tail = bytes.Clone(edge[max(0, len(edge)-keep):])
	return len(p), nil
}
