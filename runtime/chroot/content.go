package chroot

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// chunk is read and written at once.
const chunk = 1 << 18

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// copyContent copies a file's content into an empty one: as a reflink, until the
// file system says once that it can't, else without its holes.
func copyContent(in, out int, st *unix.Stat_t, noClone *atomic.Bool) error {
	if st.Size == 0 {
		return nil
	}
	if !noClone.Load() {
		err := unix.IoctlFileClone(out, in)
		if err == nil {
			return nil
		}
		noClone.Store(true)
	}
	if st.Blocks*512 >= st.Size {
		_, err := copyRange(in, out, 0, -1)
		return err
	}
	return copySparse(in, out, st.Size)
}

func copySparse(in, out int, size int64) error {
	for at := int64(0); at < size; {
		start, err := unix.Seek(in, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err != nil {
			_, err := copyRange(in, out, at, -1) // no such seeking here
			return err
		}
		end, err := unix.Seek(in, start, unix.SEEK_HOLE)
		if err == unix.ENXIO {
			break // it became shorter
		}
		if err != nil {
			return err
		}
		if at, err = copyRange(in, out, start, end); err != nil {
			return err
		}
		if at < end {
			break // it became shorter
		}
	}
	return unix.Ftruncate(out, size)
}

// copyRange copies what is between two offsets, or up to the end where the second
// is -1, and returns how far it came.
func copyRange(in, out int, at, end int64) (int64, error) {
	left := func() int {
		if end < 0 {
			return 1 << 30
		}
		return int(min(end-at, 1<<30))
	}
	for kernel := true; left() > 0; {
		if kernel {
			from, to := at, at
			n, err := unix.CopyFileRange(in, &from, out, &to, left(), 0)
			switch {
			case err == unix.EINTR:
				continue
			case err == nil && n > 0:
				at += int64(n)
				continue
			case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EIO):
				return at, err
			}
			kernel = false // between these file systems the kernel doesn't
		}
		n, err := copyChunk(in, out, at, left())
		if err != nil || n == 0 {
			return at, err
		}
		at += int64(n)
	}
	return at, nil
}

func copyChunk(in, out int, at int64, left int) (int, error) {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	n, err := readAt(in, (*buf)[:min(left, chunk)], at)
	if err != nil || n == 0 {
		return 0, err
	}
	for done := 0; done < n; {
		m, err := unix.Pwrite(out, (*buf)[done:n], at+int64(done))
		if err != nil && err != unix.EINTR {
			return 0, err
		}
		done += max(m, 0)
	}
	return n, nil
}

// readAt fills b from an offset, as far as the file goes.
func readAt(fd int, b []byte, at int64) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Pread(fd, b[n:], at+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return n, err
		}
		n += m
	}
	return n, nil
}

// sameContent reports whether two files hold the same bytes.
func sameContent(a, b int) (bool, error) {
	x, y := chunks.Get().(*[]byte), chunks.Get().(*[]byte)
	defer chunks.Put(x)
	defer chunks.Put(y)
	for at := int64(0); ; at += chunk {
		n, err := readAt(a, *x, at)
		if err != nil {
			return false, err
		}
		m, err := readAt(b, *y, at)
		if err != nil || !bytes.Equal((*x)[:n], (*y)[:m]) {
			return false, err
		}
		if n < chunk {
			return true, nil
		}
	}
}
