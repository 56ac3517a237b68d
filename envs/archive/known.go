package archive

import (
	"bytes"
	"context"

	"github.com/stead-env/stead/snapshot"
)

// Known is one suite that a machine's own apt knows of.
type Known struct {
	URI        string // without credentials and a slash at the end
	Suite      string
	Components []string
	// Origin is what the index on the machine says of itself: "Debian". Nothing vouches
	// for it; it is "" where there is no index.
	Origin string
}

// ReadKnown lists what the apt of a machine knows of, in its order. What can't be read
// is left out.
func ReadKnown(ctx context.Context, machine snapshot.Host, architecture string) ([]Known, error) {
	a := newApt(Debian{Host: machine, Architecture: architecture})
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	files, err := a.files.list(ctx, listsDir)
	if err != nil {
		return nil, err
	}
	var known []Known
	for _, s := range a.sources {
		k := Known{URI: s.uri, Suite: s.suite, Components: s.components}
		for _, name := range []string{listName(s, "InRelease"), listName(s, "Release")} {
			if _, ok := files[name]; !ok || k.Origin != "" {
				continue
			}
			content, _, err := a.files.slurp(ctx, []string{name}, maxRelease)
			if err != nil {
				return nil, err
			}
			k.Origin = origin(content[name])
		}
		known = append(known, k)
	}
	return known, nil
}

// origin is what a Release, signed or not, says that it is.
func origin(blob []byte) string {
	text := blob
	if s, err := split(blob); err == nil {
		text = s.text
	}
	rel, err := parseRelease(bytes.NewReader(text))
	if err != nil {
		return ""
	}
	return rel.origin
}
