package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// maxComplaints bounds what is kept of the paths that can't be read.
const maxComplaints = 10_000

// complaints are what commands say of paths on stderr, the first of each.
type complaints struct {
	mu    sync.Mutex
	of    map[string]error
	order []string
	more  int
}

// line takes a line of stderr. Of what vanished nothing is kept: that is no failure.
func (c *complaints) line(text string) {
	p, err, ok := parseComplaint(text)
	if !ok || errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.add(p, err)
}

func (c *complaints) add(p string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.of[p] != nil:
	case len(c.of) >= maxComplaints:
		c.more++
	default:
		if c.of == nil {
			c.of = map[string]error{}
		}
		c.of[p] = err
		c.order = append(c.order, p)
	}
}

// about is what was said of a path, nil for nothing.
func (c *complaints) about(p string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[p]
}

// note puts complaints beside the entries of a listing. What isn't in it, because not
// even its type could be told, is noted at the folder around it.
func (c *complaints) note(ctx context.Context, l *listing) error {
	there, err := l.lookups(ctx, c.order)
	if err != nil {
		return err
	}
	for _, p := range c.order {
		reason := c.of[p]
		if _, ok := there[p]; !ok {
			at := p
			for at != "." && l.folders[at] == nil {
				at = path.Dir(at)
			}
			p, reason = at, fmt.Errorf("%q: %w", strings.TrimPrefix(strings.TrimPrefix(p, at), "/"), reason)
			if l.failed[p] != nil && len(l.failed[p].Error()) < 1000 {
				reason = fmt.Errorf("%w; %w", l.failed[p], reason)
			} else if l.failed[p] != nil {
				continue
			}
		}
		l.failed[p] = reason
	}
	if c.more > 0 && l.failed["."] == nil {
		l.failed["."] = fmt.Errorf("so many paths can't be read that %d of them aren't listed", c.more)
	}
	return nil
}

// reasons are the words of strerror(3) in the C locale for what a caller decides by.
var reasons = map[string]error{
	"Permission denied":         unix.EACCES,
	"No such file or directory": unix.ENOENT,
	"Not a directory":           unix.ENOENT, // a folder on the way is gone
	"Operation not permitted":   unix.EPERM,
	"Input/output error":        unix.EIO,
	"Stale file handle":         unix.ESTALE,
	"Cannot open":               errors.New("it can't be opened"),
}

// parseComplaint reads a line that a command wrote about a path below the root:
//
//	find: './etc/x y': Permission denied
//	tar: ./etc/x\ny: Cannot open: Permission denied
//	stat: can't stat './etc/x': Permission denied
//	find: ./etc/x: Permission denied
func parseComplaint(text string) (p string, reason error, ok bool) {
	at := strings.Index(text, "./")
	if at < 0 {
		return "", nil, false
	}
	rest := ""
	if at > 0 && text[at-1] == '\'' {
		end := closingQuote(text[at:])
		if end < 0 {
			return "", nil, false
		}
		p, rest = unescapeC(text[at:at+end]), text[at+end+1:]
	} else if p, rest, ok = strings.Cut(text[at:], ": "); ok {
		rest = ": " + rest
		if strings.HasPrefix(text, "tar: ") {
			p = unescapeC(p)
		}
	}
	rest, ok = strings.CutPrefix(rest, ": ")
	if p = relative(p); !ok || !snapshot.ValidPath(p) {
		return "", nil, false
	}
	if i := strings.LastIndex(rest, ": "); i >= 0 {
		rest = rest[i+2:]
	}
	if reason = reasons[rest]; reason == nil {
		reason = errors.New(rest)
	}
	return p, reason, true
}

// closingQuote finds the quote that ends a name that GNU tools have quoted.
func closingQuote(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			return i
		}
	}
	return -1
}

// unescapeC undoes what GNU tools put for characters that can't be shown.
func unescapeC(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	const letters, meant = `abfnrtv\'" ?`, "\a\b\f\n\r\t\v\\'\" ?"
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if j := strings.IndexByte(letters, s[i+1]); j >= 0 {
				b = append(b, meant[j])
				i++
				continue
			}
			if i+3 < len(s) && isOctal(s[i+1:i+4]) {
				b = append(b, unescapeOctal(s[i:i+4])...)
				i += 3
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}
