package content

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"path"
	"slices"
	"strconv"
	"strings"
)

// arMagic begins every ar archive, and so every .deb.
const arMagic = "!<arch>\n"

// maxControl bounds what a package says of itself.
const maxControl = 4 << 20

// deb reads a package of Debian's: see deb(5). As dpkg does, it takes control.tar before
// data.tar and nothing else.
func (a *archive) deb(ctx context.Context, r io.Reader) error {
	br := bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != arMagic {
		return errors.New("it is no .deb: the ar magic is missing")
	}
	for data := false; !data; {
		name, size, err := arHeader(br)
		if err == io.EOF {
			return errors.New("it is cut off: control.tar or data.tar is missing")
		}
		if err != nil {
			return err
		}
		member := &io.LimitedReader{R: br, N: size}
		switch {
		case strings.HasPrefix(name, "control.tar") && a.set.Package == nil:
			err = a.debControl(ctx, name, member)
		case strings.HasPrefix(name, "data.tar"):
			if data = true; a.set.Package == nil {
				return errors.New("data.tar comes before control.tar")
			}
			err = a.eachTar(ctx, path.Ext(name), member, func(h *tar.Header, r io.Reader) error { return a.tarEntry(ctx, h, r) })
		}
		if err == nil {
			_, err = io.Copy(io.Discard, member)
		}
		if err == nil && member.N > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if size%2 == 1 {
			br.Discard(1)
		}
	}
	return nil
}

// arHeader reads the 60 bytes before each member; see ar(5).
func arHeader(r io.Reader) (name string, size int64, err error) {
	var h [60]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", 0, err
	}
	if h[58] != '`' || h[59] != '\n' {
		return "", 0, errors.New("it has a malformed ar header")
	}
	name = strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	size, err = strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
	if err != nil || size < 0 {
		return "", 0, fmt.Errorf("ar member %q has a malformed size", name)
	}
	return name, size, nil
}

func (a *archive) debControl(ctx context.Context, name string, r io.Reader) error {
	err := a.eachTar(ctx, path.Ext(name), r, func(h *tar.Header, r io.Reader) error {
		if path.Clean("/"+h.Name) != "/control" || h.Typeflag != tar.TypeReg {
			return nil
		}
		text, err := io.ReadAll(io.LimitReader(r, maxControl+1))
		if err != nil {
			return err
		}
		if len(text) > maxControl {
			return fmt.Errorf("control is larger than %d bytes", maxControl)
		}
		a.set.Package, err = debPackage(text)
		return err
	})
	if err == nil && a.set.Package == nil {
		return errors.New("it has no control file")
	}
	if err != nil {
		return err
	}
	return a.begin()
}

// debPackage reads a control file: one stanza, whose syntax is that of mail headers.
func debPackage(control []byte) (*Package, error) {
	fields, err := stanza(control)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	p := &Package{
		Name: fields.Get("Package"), Version: fields.Get("Version"), Architecture: fields.Get("Architecture"),
		Depends:  slices.Concat(names(fields.Get("Pre-Depends")), names(fields.Get("Depends"))),
		Excludes: slices.Concat(names(fields.Get("Conflicts")), names(fields.Get("Breaks"))),
		Provides: names(fields.Get("Provides")),
	}
	if p.Name == "" || p.Version == "" || p.Architecture == "" {
		return nil, errors.New("control lacks a name, a version or an architecture")
	}
	return p, nil
}

func stanza(text []byte) (textproto.MIMEHeader, error) {
	text = append(bytes.TrimSpace(text), "\n\n"...)
	return textproto.NewReader(bufio.NewReader(bytes.NewReader(text))).ReadMIMEHeader()
}
