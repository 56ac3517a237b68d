package content

import (
	"io"
	"sync"
)

// How much of a file is kept while it is read here and there.
const (
	pageBytes = 64 << 10
	pageCount = 4
)

// paged reads pages of a file and keeps some. An ELF object is read in thirty places, most
// of them near each other: as many calls of pread(2) would take longer than all else that
// is done with it. It isn't safe for concurrent use.
type paged struct {
	r     io.ReaderAt
	pages [pageCount]page
}

type page struct {
	number int64 // of the page in the file, counted from 1; 0 for none
	bytes  int   // fewer than there are at the file's end
	buf    [pageBytes]byte
}

var pagers = sync.Pool{New: func() any { return new(paged) }}

// newPaged is to be given back to pagers.
func newPaged(r io.ReaderAt) *paged {
	p := pagers.Get().(*paged)
	p.r = r
	for i := range p.pages {
		p.pages[i].number = 0
	}
	return p
}

func (p *paged) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 || len(b) >= pageBytes {
		return p.r.ReadAt(b, off)
	}
	for n < len(b) {
		at := off + int64(n)
		pg := &p.pages[at/pageBytes%pageCount]
		if number := at/pageBytes + 1; pg.number != number {
			pg.number = 0
			if pg.bytes, err = p.r.ReadAt(pg.buf[:], (number-1)*pageBytes); err != nil && err != io.EOF {
				return n, err
			}
			pg.number = number
		}
		if at%pageBytes >= int64(pg.bytes) {
			return n, io.EOF
		}
		n += copy(b[n:], pg.buf[at%pageBytes:pg.bytes])
	}
	return n, nil
}
