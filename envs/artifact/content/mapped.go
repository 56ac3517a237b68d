package content

import (
	"errors"
	"io"
	"os"
	goruntime "runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mapped is a file in memory. An ELF object is read in some thirty places: as many calls
// of pread(2) take longer than all else that is done with it.
type mapped []byte

// mapFile maps a file of this machine, or gives the file itself where that can't be done.
// done ends the mapping.
func mapFile(f *os.File, size int64) (r io.ReaderAt, done func()) {
	if size <= 0 || int64(int(size)) != size {
		return f, func() {}
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return f, func() {}
	}
	return mapped(data), func() { unix.Munmap(data) } //nolint:errcheck // it was mapped as a whole
}

var errTruncated = errors.New("it was truncated while it was read")

// ReadAt copies out of the file. Where that has become shorter a fault tells.
func (m mapped) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 || off > int64(len(m)) {
		return 0, io.EOF
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault, ok := recover().(goruntime.Error); ok {
			n, err = 0, errors.Join(errTruncated, fault)
		}
	}()
	if n = copy(b, m[off:]); n < len(b) {
		err = io.EOF
	}
	return n, err
}
