package main

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
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
				hits, err := scanFile(path, planted)
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

func scanFile(path string, planted []secret) ([]secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hits := map[string]secret{}
	err = search(f, planted, hits, 3)
	var all []secret
	for _, s := range hits {
		all = append(all, s)
	}
	return all, err
}

// search looks for secrets in a stream, and in what it decompresses or unpacks to.
func search(r io.Reader, planted []secret, hits map[string]secret, depth int) error {
	in := bufio.NewReaderSize(r, 1<<20)
	head, _ := in.Peek(8)
	inner := decoder(head)
	if inner == nil || depth == 0 {
		_, err := io.Copy(&finder{planted: planted, hits: hits}, in)
		return err
	}
	pipeIn, pipeOut := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What doesn't decompress is no hiding place, but all of the raw stream has to be read.
		_ = inner(pipeIn, func(r io.Reader) error { return search(r, planted, hits, depth-1) })
		_, _ = io.Copy(io.Discard, pipeIn)
	}()
	raw := map[string]secret{}
	_, err := io.Copy(io.MultiWriter(&finder{planted: planted, hits: raw}, pipeOut), in)
	pipeOut.Close()
	<-done
	for k, s := range raw {
		hits[k] = s
	}
	return err
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

// finder is a writer that looks for secrets, also where they lie across two writes.
type finder struct {
	planted []secret
	hits    map[string]secret
	tail    []byte
}

func (f *finder) Write(p []byte) (int, error) {
	const longest = 256
	edge := append(f.tail, p[:min(len(p), longest)]...)
	for _, s := range f.planted {
		if bytes.Contains(p, s.marker) || bytes.Contains(edge, s.marker) {
			f.hits[string(s.marker)] = s
		}
	}
	if len(p) >= longest {
		edge = p
	}
	f.tail = bytes.Clone(edge[max(0, len(edge)-longest):])
	return len(p), nil
}
