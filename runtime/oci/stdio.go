package oci

import (
	"io"
	"os"
	"reflect"
	"sync"

	"github.com/stead-env/stead/runtime"
)

// streams are a command's standard streams as open files.
type streams struct {
	in, out, err *os.File
	given        []*os.File // the command's ends: closed once it has them
	feed         *os.File   // this end of standard input
	copies       sync.WaitGroup
}

func openStreams(stdio runtime.Stdio) (s *streams, err error) {
	s = &streams{}
	defer func() {
		if err != nil {
			s.release()
			s.close()
		}
	}()
	if s.in, err = s.input(stdio.In); err != nil {
		return s, err
	}
	if s.out, err = s.output(stdio.Out); err != nil {
		return s, err
	}
	if same(stdio.Out, stdio.Err) {
		s.err = s.out
		return s, nil
	}
	s.err, err = s.output(stdio.Err)
	return s, err
}

// same reports whether both streams are one writer, which must get its bytes from
// one goroutine.
func same(a, b io.Writer) bool {
	if a == nil || b == nil || !reflect.TypeOf(a).Comparable() {
		return false
	}
	return a == b
}

func (s *streams) input(r io.Reader) (*os.File, error) {
	if f, ok := r.(*os.File); ok && f != nil {
		return f, nil
	}
	if r == nil {
		return s.null(os.O_RDONLY)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.given, s.feed = append(s.given, theirs), ours
	// Not waited for: nothing can interrupt a reader that blocks.
	go func() {
		io.Copy(ours, r)
		ours.Close()
	}()
	return theirs, nil
}

func (s *streams) output(w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok && f != nil {
		return f, nil
	}
	if w == nil {
		return s.null(os.O_WRONLY)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.given = append(s.given, theirs)
	s.copies.Go(func() {
		io.Copy(w, ours)
		ours.Close() // a writer that failed: the command gets SIGPIPE
	})
	return theirs, nil
}

func (s *streams) null(flag int) (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err == nil {
		s.given = append(s.given, f)
	}
	return f, err
}

// release closes the command's ends in this process.
func (s *streams) release() {
	for _, f := range s.given {
		f.Close()
	}
	s.given = nil
}

// close waits until everything the session wrote has arrived.
func (s *streams) close() {
	if s.feed != nil {
		s.feed.Close()
	}
	s.copies.Wait()
}
