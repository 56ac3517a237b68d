package envs

import (
	"io"
	"os"

	"github.com/stead-env/stead/envs/store"
)

// spool holds copies of files one behind the other: to make and remove a file for each
// of hundreds of thousands would take longer than to read them.
type spool struct {
	f    *os.File
	end  int64
	hole bool // the copy at the end ends in zeros that were not written
}

// shortestHole is the number of zeros, in bytes, for which it is worth not to write them.
const shortestHole = 4096

// Write adds to the copy at the end.
func (s *spool) Write(p []byte) (int, error) {
	if s.hole = len(p) >= shortestHole && store.IsZero(p); s.hole {
		s.end += int64(len(p))
		return len(p), nil
	}
	n, err := s.f.WriteAt(p, s.end)
	s.end += int64(n)
	return n, err
}

// keep completes the copy at the end.
func (s *spool) keep() error {
	if !s.hole {
		return nil
	}
	s.hole = false
	return s.f.Truncate(s.end)
}

// drop removes what was copied since the spool ended at end.
func (s *spool) drop(end int64) error {
	s.end, s.hole = end, false
	return s.f.Truncate(end)
}

// open returns a copy of size bytes that begins at an offset.
func (s *spool) open(at, size int64) io.ReadCloser {
	return io.NopCloser(io.NewSectionReader(s.f, at, size))
}
