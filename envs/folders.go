package envs

import (
	"cmp"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/snapshot"
)

// Folder sums up what became of the paths below one folder for one reason.
type Folder struct {
	Path   string       `json:"path"`
	Action image.Action `json:"action"`
	Reason string       `json:"reason"`
	Files  int64        `json:"files"`
	Bytes  int64        `json:"bytes"`
}

// folderDepth is how deep folders are told apart.
const folderDepth = 3

// Folders sums the review up, the largest first: what left the host, then what stays on
// it. Secrets that are named one by one are in neither.
func (r *Review) Folders() (left, stays []Folder) {
	type key struct {
		path, reason string
		action       image.Action
	}
	at := map[key]*Folder{}
	add := func(folder string, action image.Action, reason string, files, bytes int64) {
		k := key{folder, reason, action}
		if at[k] == nil {
			at[k] = &Folder{Path: folder, Action: action, Reason: reason}
		}
		at[k].Files, at[k].Bytes = at[k].Files+files, at[k].Bytes+bytes
	}
	for _, d := range r.Decisions {
		if d.Action != image.Left || d.Class != snapshot.Secret {
			add(above(d.Path), d.Action, d.Reason, 1, d.Size)
		}
	}
	for _, l := range r.Left {
		if l.Class != snapshot.Secret {
			add(l.Path, image.Left, l.Reason, l.Files, l.Bytes)
		}
	}
	for _, f := range at {
		if f.Action == image.Left || f.Action == image.Gone {
			stays = append(stays, *f)
		} else {
			left = append(left, *f)
		}
	}
	for _, all := range [][]Folder{left, stays} {
		slices.SortFunc(all, func(a, b Folder) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Files, a.Files), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason))
		})
	}
	return left, stays
}

// above is the folder that a path is summed up under.
func above(p string) string {
	dir := path.Dir(p)
	for i, depth := 0, 0; i < len(dir); i++ {
		if dir[i] == '/' {
			if depth++; depth == folderDepth {
				return dir[:i]
			}
		}
	}
	return dir
}

// Secrets are what stays because it is secret, path by path: those that only their
// content told of first.
func (r *Review) Secrets() []snapshot.Left {
	var content, named []snapshot.Left
	for _, d := range r.Decisions {
		if d.Action == image.Left && d.Class == snapshot.Secret {
			content = append(content, snapshot.Left{Path: d.Path, Class: d.Class, Reason: d.Reason, Files: 1, Bytes: d.Size})
		}
	}
	for _, l := range r.Left {
		if l.Class == snapshot.Secret {
			named = append(named, l)
		}
	}
	return append(content, named...)
}

// Manifest are the files that left the host, each with its SHA-256.
func (r *Review) Manifest() []image.Decision {
	var all []image.Decision
	for _, d := range r.Decisions {
		if d.SHA256 != "" {
			all = append(all, d)
		}
	}
	return all
}

// WriteManifest writes the files that left the host as text: SHA-256, size, path and
// reason of each, with a tab between them.
func (r *Review) WriteManifest(w io.Writer) error {
	for _, d := range r.Decisions {
		if d.SHA256 == "" {
			continue
		}
		row := d.SHA256 + "\t" + strconv.FormatInt(d.Size, 10) + "\t/" + Shown(d.Path) + "\t" + string(d.Action) + ": " + Shown(d.Reason) + "\n"
		if _, err := io.WriteString(w, row); err != nil {
			return err
		}
	}
	return nil
}

// Shown spells a path of a host so that each has its own spelling and none upsets a
// terminal or a table: what isn't to be printed becomes \xHH, and a backslash \\.
func Shown(p string) string {
	plain := func(r rune) bool { return unicode.IsPrint(r) && r != '\\' && r != utf8.RuneError }
	if strings.IndexFunc(p, func(r rune) bool { return !plain(r) }) < 0 {
		return p
	}
	var b strings.Builder
	for len(p) > 0 {
		r, n := utf8.DecodeRuneInString(p)
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case plain(r):
			b.WriteString(p[:n])
		default:
			for _, c := range []byte(p[:n]) {
				b.WriteString(`\x` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
			}
		}
		p = p[n:]
	}
	return b.String()
}
