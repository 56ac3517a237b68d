package host

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"

	"github.com/stead-env/stead/snapshot"
)

// archives goes through an answer of archives, each with its mark, and calls entry for
// what is in them. rest, where it isn't nil, reads what follows a mark.
func archives(r *bufio.Reader, entry func(*tar.Header, io.Reader) error, rest func() error) error {
	for {
		if _, err := r.Peek(1); err == io.EOF {
			return nil // xargs ran nothing (any more)
		}
		t := tar.NewReader(r)
		for {
			h, err := t.Next()
			if err == io.EOF {
				break
			}
			if err == nil {
				err = entry(h, t)
			}
			if err != nil {
				return err
			}
		}
		if err := skipPadding(r); err != nil {
			return err
		}
		if _, err := endMark(r, endPart); err != nil {
			return err
		}
		if rest != nil {
			if err := rest(); err != nil {
				return err
			}
		}
	}
}

// skipPadding skips the zeros that fill the last record of an archive.
func skipPadding(r *bufio.Reader) error {
	const record = 1 << 20
	for range record {
		b, err := r.ReadByte()
		if err != nil {
			return errBroken
		}
		if b != 0 {
			return r.UnreadByte()
		}
	}
	return fmt.Errorf("%w: more than %d zeros after an archive", errMalformed, record)
}

// endMark reads a mark and the status with it.
func endMark(r *bufio.Reader, mark string) (status int, err error) {
	in := &foundReader{r: r}
	b, err := in.field()
	if err != nil {
		return 0, err
	}
	if string(b) != mark {
		return 0, fmt.Errorf("%w: %q is no mark", errMalformed, b)
	}
	n, err := in.number(10, 16)
	return int(n), err
}

// looked reads what is told of files after they were read, up to the mark.
func (s *Shell) looked(r *bufio.Reader, names []string, fn func(snapshot.File)) error {
	if s.have["find-printf"] {
		in := &foundReader{r: r}
		for {
			f, err := in.next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			fn(f.File)
		}
	}
	in := &statReader{r: r, names: names, end: endWhole}
	for {
		f, err := in.next()
		if err == io.EOF {
			_, err = endMark(r, endWhole)
			return err
		}
		if err != nil {
			return err
		}
		fn(f.File)
	}
}
