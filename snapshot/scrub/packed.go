package scrub

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// Bounds of what is unpacked to be searched, whatever a file promises.
const (
	maxUnpacked = 64 << 20 // bytes that come out of one file
	maxMembers  = 20_000   // of one archive
	maxNested   = 3        // a key in a tar in a gzip in a zip
	maxWindow   = 8 << 20  // of a compressor's dictionary: there are several at a time
)

// errEnough says that as much was unpacked as is looked at.
var errEnough = errors.New("enough was unpacked")

// packed is a way to look into a file that holds others.
type packed struct {
	magic string
	at    int // where the magic is
	open  func(*unpacker, string, io.Reader) (reason string, err error)
}

func packings() []packed {
	return []packed{
		{"\x1f\x8b\x08", 0, stream(func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })},
		{"BZh", 0, stream(func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil })},
		{"\xfd7zXZ\x00", 0, stream(func(r io.Reader) (io.Reader, error) { return xz.NewReader(r, maxWindow) })},
		{"\x28\xb5\x2f\xfd", 0, stream(openZstd)},
		{"PK\x03\x04", 0, (*unpacker).zip},
		{"ustar", 257, (*unpacker).tar},
	}
}

func openZstd(r io.Reader) (io.Reader, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func packing(head []byte) *packed {
	if len(head) == 0 || bytes.IndexByte([]byte("\x1fB\xfd\x28P"), head[0]) < 0 && (len(head) < 262 || string(head[257:262]) != "ustar") {
		return nil
	}
	for _, p := range packings() {
		if len(head) >= p.at+len(p.magic) && string(head[p.at:p.at+len(p.magic)]) == p.magic {
			return &p
		}
	}
	return nil
}

// unpacker searches what is in one file of a host, however often that is packed.
type unpacker struct {
	rules   *Rules
	left    int64 // bytes that may still come out
	members int
	depth   int
}

// look searches the content of something that came out of a file.
func (u *unpacker) look(path string, r io.Reader) (string, error) {
	u.depth++
	defer func() { u.depth-- }()
	return u.rules.search(path, &rationed{r, u}, u)
}

// rationed ends when enough came out.
type rationed struct {
	r io.Reader
	u *unpacker
}

func (r *rationed) Read(p []byte) (int, error) {
	if r.u.left <= 0 {
		return 0, errEnough
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.u.left)])
	r.u.left -= int64(n)
	return n, err
}

// stream searches what one compressed stream holds.
func stream(open func(io.Reader) (io.Reader, error)) func(*unpacker, string, io.Reader) (string, error) {
	return func(u *unpacker, path string, r io.Reader) (string, error) {
		plain, err := open(r)
		if err != nil {
			return "", err
		}
		if c, ok := plain.(io.Closer); ok {
			defer c.Close() //nolint:errcheck // it was only read
		}
		return u.look(unsuffixed(path), plain)
	}
}

// unsuffixed is the name that a compressed file had.
func unsuffixed(path string) string {
	for _, suffix := range []string{".gz", ".bz2", ".xz", ".zst"} {
		if plain, ok := strings.CutSuffix(path, suffix); ok {
			return plain
		}
	}
	if plain, ok := strings.CutSuffix(path, ".tgz"); ok {
		return plain + ".tar"
	}
	return path
}

func (u *unpacker) tar(path string, r io.Reader) (string, error) {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return "", nil
		}
		if u.members++; err == nil && u.members > maxMembers {
			err = errEnough
		}
		if err != nil {
			return "", err
		}
		reason, err := u.look(path+"/"+strings.TrimPrefix(h.Name, "/"), t)
		if reason != "" || err != nil {
			return reason, err
		}
	}
}

// zip reads an archive from its front, which needs no more than a stream: members one
// after the other, each behind a header of its own (APPNOTE.TXT 4.3.7). One that was
// stored without its size ends the search.
func (u *unpacker) zip(path string, r io.Reader) (string, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		h, err := in.Peek(30)
		if err != nil || !bytes.HasPrefix(h, []byte("PK\x03\x04")) {
			return "", nil // the directory at the end
		}
		if u.members++; u.members > maxMembers {
			return "", errEnough
		}
		flags, method := binary.LittleEndian.Uint16(h[6:]), binary.LittleEndian.Uint16(h[8:])
		size := int64(binary.LittleEndian.Uint32(h[18:]))
		name, extra := int(binary.LittleEndian.Uint16(h[26:])), int(binary.LittleEndian.Uint16(h[28:]))
		const encrypted, sizeFollows = 1, 8
		header := make([]byte, 30+name+extra)
		if _, err := io.ReadFull(in, header); err != nil {
			return "", err
		}
		var body io.Reader = io.LimitReader(in, size)
		plain := body
		switch {
		case method == 8 && flags&encrypted == 0:
			if flags&sizeFollows != 0 {
				body = in
			}
			plain = flate.NewReader(byteReader(body)) // takes no byte that isn't its own
		case flags&sizeFollows != 0:
			return "", errEnough
		case method != 0 || flags&encrypted != 0:
			plain = strings.NewReader("")
		}
		reason, err := u.look(path+"/"+string(header[30:30+name]), plain)
		if reason != "" || err != nil {
			return reason, err
		}
		if _, err := io.Copy(io.Discard, &rationed{plain, u}); err != nil {
			return "", err
		}
		if err := u.behind(in, body, flags&sizeFollows != 0); err != nil {
			return "", err
		}
	}
}

// behind goes on to the next header: over what is left of a member, or over the
// record that gives its size afterwards, with a signature or without.
func (u *unpacker) behind(in *bufio.Reader, body io.Reader, sizeFollows bool) error {
	if !sizeFollows {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	for range 25 {
		h, err := in.Peek(4)
		if err != nil || bytes.HasPrefix(h, []byte("PK\x03\x04")) || bytes.HasPrefix(h, []byte("PK\x01\x02")) {
			return err
		}
		if _, err := in.Discard(1); err != nil {
			return err
		}
	}
	return nil
}

func byteReader(r io.Reader) io.Reader {
	if _, ok := r.(io.ByteReader); ok {
		return r
	}
	return bufio.NewReader(r)
}
