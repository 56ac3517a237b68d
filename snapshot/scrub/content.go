package scrub

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	window  = 256 << 10 // bytes looked at together
	overlap = 32 << 10  // a private key, or a long line, is not longer
	limit   = 256 << 20 // where reading a file ends
)

// Content implements snapshot.Rules. It reads a window at a time, each with the
// end of the one before it, and at most 256 MiB. A text is searched for private
// keys, tokens of known shapes and addresses with a password; where it is
// configuration, for assignments of a password. Anything else is searched for
// complete private keys only: programs hold the words around one. Archives and
// compressed files are searched for what is in them.
func (r *Rules) Content(path string, content io.Reader) (string, error) {
	if r.named(path) {
		return "", nil
	}
	in := &source{r: content}
	reason, err := r.search(path, in, &unpacker{rules: r, left: maxUnpacked})
	if in.err != nil {
		err = in.err
	}
	if err != nil && reason == "" {
		return "", fmt.Errorf("reading /%s: %w", path, err)
	}
	return reason, nil
}

// source tells the errors of a file from those of what is packed in it.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// search is Content for a file, or for something that was in one.
func (r *Rules) search(path string, content io.Reader, u *unpacker) (string, error) {
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buf := (*pooled)[:0]
	look := search{config: isConfig(path), source: isLiteral(path)}
	for total := 0; total < limit; {
		n, err := io.ReadFull(content, buf[len(buf):min(len(buf)+window, cap(buf))])
		buf = buf[:len(buf)+n]
		if total == 0 {
			if reason, done := u.open(path, buf, content); done {
				return reason, nil
			}
			if reason := binaryKey(buf); reason != "" {
				return reason, nil
			}
			look.wide = isWide(buf)
			look.text = look.wide || isText(buf)
		}
		total += n
		seen := buf
		if look.wide { // the half of it that ASCII takes
			seen = bytes.ReplaceAll(buf, []byte{0}, nil)
		}
		if reason := look.in(seen); reason != "" {
			return reason, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		keep := buf[len(buf)-min(len(buf), overlap):]
		if look.text { // begin with a whole line, for what is bound to its beginning
			if i := bytes.IndexByte(keep, '\n'); i >= 0 {
				keep = keep[i+1:]
			}
		}
		buf = buf[:copy(buf[:cap(buf)], keep)]
	}
	return "", nil
}

// open looks into a file that is packed. What can't be unpacked, or not within the
// bounds, is no hiding place for text: done is false for what isn't packed at all.
func (u *unpacker) open(path string, head []byte, rest io.Reader) (reason string, done bool) {
	p := packing(head)
	if p == nil || u.depth >= maxNested {
		return "", false
	}
	reason, _ = p.open(u, path, io.MultiReader(bytes.NewReader(head), rest))
	return reason, true
}

// buffers hold a window each: most files are a hundredth of one.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, window+overlap)
	return &b
}}

type search struct{ text, config, source, wide bool }

func (s search) in(b []byte) string {
	if reason := privateKey(b, s.text); reason != "" || !s.text {
		return reason
	}
	if reason := token(b); reason != "" {
		return reason
	}
	if passwordInAddress(b) {
		return "an address with a password"
	}
	if encodedKey(b) {
		return "a private key in base64"
	}
	switch {
	case s.config:
		return assignment(b, setting)
	case s.source:
		return assignment(b, program)
	}
	return ""
}

// isWide tells UTF-16 by its byte order mark, as programs from Windows write it.
func isWide(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff"))
}

func isText(b []byte) bool {
	b = b[:min(len(b), 8<<10)]
	return bytes.IndexByte(b, 0) < 0 && !bytes.HasPrefix(b, []byte("\x1f\x8b")) &&
		!bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) && !bytes.HasPrefix(b, []byte("\xfd7zXZ"))
}

// sourceCode are the extensions of files whose assignments are not settings.
var sourceCode = strings.Fields(`c h cc cpp hpp cxx tcc go rs java kt scala cs swift m py pyi pl pm pod t rb erb lua tcl r jl hs ml
	mli el lisp scm clj ex exs erl js mjs cjs ts tsx jsx vue css scss html htm xhtml xsl xsd dtd rng md rst txt tex bib po pot
	mo svg awk sed vim diff patch map sql ipynb proto g4 y l f f90 pas asm s in am ac m4 cmake 1 2 3 4 5 6 7 8 9 gz`)

// Where files are of a kind, by how their paths begin, or by a folder in them.
var (
	documented = strings.Fields(`usr/share/doc/ usr/share/man/ usr/share/locale/ usr/share/perl/ usr/share/info/
		usr/share/bash-completion/ usr/share/lintian/ usr/include/ etc/bash_completion.d/`)
	translated   = strings.Fields(`/locale/ /locales/ /i18n/ /l10n/ /lang/ /translations/`) // what programs say
	administered = strings.Fields(`etc/ usr/local/bin/ usr/local/sbin/`)                    // in whatever language
	distributed  = strings.Fields(`usr/share/ usr/lib usr/include/ usr/src/ lib/ var/lib/ usr/local/go/`)
	brought      = strings.Fields(`/site-packages/ /dist-packages/ /node_modules/ /test/ /tests/ /testdata/ /vendor/ /docs/`)
)

var isSource = func() map[string]bool {
	m := map[string]bool{}
	for _, e := range sourceCode {
		m[e] = true
	}
	return m
}()

// isConfig reports whether a file's assignments are settings: what lies in etc,
// or is called like configuration, and isn't documentation.
func isConfig(path string) bool {
	for _, doc := range documented {
		if strings.HasPrefix(path, doc) {
			return false
		}
	}
	for _, said := range translated {
		if strings.Contains(path, said) {
			return false
		}
	}
	for _, own := range administered {
		if strings.HasPrefix(path, own) {
			return true
		}
	}
	name := path[strings.LastIndexByte(path, '/')+1:]
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 { // a program more often than not, where programs are
		return !strings.HasPrefix(path, "usr/") || strings.HasPrefix(path, "usr/local/")
	}
	return !isSource[strings.ToLower(name[dot+1:])]
}

// isLiteral reports whether a text may be an administrator's own program: only in
// what a distribution brings are literal passwords somebody's examples.
func isLiteral(path string) bool {
	for _, theirs := range distributed {
		if strings.HasPrefix(path, theirs) {
			return false
		}
	}
	for _, theirs := range brought {
		if strings.Contains(path, theirs) {
			return false
		}
	}
	return true
}
