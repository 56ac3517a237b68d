package session

import (
	"io"
	"os"
	"reflect"
	"sync"

	"github.com/stead-env/stead/runtime"
)

// Streams are a command's standard streams as open files.
type Streams struct {
	In, Out, Err *os.File

	given  []*os.File // the command's ends: closed once it has them
	feed   *os.File   // this end of standard input
	copies sync.WaitGroup
}

// OpenStreams opens them; what isn't an open file is copied through a pipe.
func OpenStreams(stdio runtime.Stdio) (s *Streams, err error) {
	s = &Streams{}
	defer func() {
		if err != nil {
			s.Release()
			s.Close()
		}
	}()
	if s.In, err = s.input(stdio.In); err != nil {
		return s, err
	}
	if s.Out, err = s.output(stdio.Out); err != nil {
		return s, err
	}
	if same(stdio.Out, stdio.Err) {
		s.Err = s.Out
		return s, nil
	}
	s.Err, err = s.output(stdio.Err)
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

func (s *Streams) input(r io.Reader) (*os.File, error) {
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

func (s *Streams) output(w io.Writer) (*os.File, error) {
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

func (s *Streams) null(flag int) (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err == nil {
		s.given = append(s.given, f)
	}
	return f, err
}

// Release closes the command's ends in this process.
func (s *Streams) Release() {
	for _, f := range s.given {
		f.Close()
	}
	s.given = nil
}

// Close waits until everything the session wrote has arrived.
func (s *Streams) Close() {
	if s.feed != nil {
		s.feed.Close()
	}
	s.copies.Wait()
}
