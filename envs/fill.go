package envs

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/snapshot"
)

// fill reads what the plan wants to store and turns it into a delta. Files that may
// not leave for what is in them, and files that can't be read, stay behind.
func (s *snapshotter) fill(ctx context.Context, plan *image.Plan, stand map[string]instead) (*image.Delta, error) {
	if err := s.contents.read(ctx, plan.Entries); err != nil {
		return nil, err
	}
	d := &image.Delta{Gone: plan.Gone, Instead: map[string][]byte{}, Entries: plan.Entries[:0]} // the plan's, without a copy
	left := map[string]image.Leaving{}
	for _, f := range plan.Entries {
		f, why, err := s.settle(f)
		switch {
		case err != nil:
			return nil, err
		case why != nil:
			left[f.Path] = *why
		default:
			d.Entries = append(d.Entries, f)
		}
	}
	plan.Entries = nil
	kept := len(d.Entries)
	var replaced []snapshot.File
	for p, i := range stand {
		d.Entries = append(d.Entries, i.file)
		d.Instead[p] = i.content
		replaced = append(replaced, i.file)
	}
	s.missing = s.missed(left, plan)
	plan.Settle(d.Entries[:kept], left, replaced)
	d.Entries.Normalize()
	return d, nil
}

// settle completes a planned file with its digest, or says why it stays behind.
func (s *snapshotter) settle(f snapshot.File) (snapshot.File, *image.Leaving, error) {
	shown, reason, err := s.name(f.Path)
	if reason != "" || err != nil {
		return f, &image.Leaving{Class: snapshot.Secret, Reason: reason + ", in its name", Shown: shown}, err
	}
	f, reason, err = s.outside(f)
	if err == nil && reason == "" && f.Type == snapshot.Regular {
		var failed error
		if f.Digest, reason, failed = s.contents.of(f); failed != nil {
			if lacking := s.unsent(f, failed); lacking != nil {
				return f, nil, lacking
			}
			s.inv.Unreadable = append(s.inv.Unreadable, snapshot.Left{Path: f.Path, Reason: failed.Error(), Files: 1, Bytes: f.Size})
			return f, &image.Leaving{Class: snapshot.Made, Reason: "it could not be read: " + failed.Error()}, nil
		}
	}
	if reason != "" || err != nil {
		return f, &image.Leaving{Class: snapshot.Secret, Reason: reason}, err
	}
	return f, nil, nil
}

// name looks for secrets in a path, and returns as much of it as may be shown. What
// lies in a folder whose name holds one stays behind with it.
func (s *snapshotter) name(p string) (shown, reason string, err error) {
	if dir, base := path.Split(p); dir != "" && dir == s.harmless { // files come folder by folder
		if len(base) >= shortestSecret {
			reason, err = s.opts.Rules.Content(p, strings.NewReader(base))
		}
		if reason != "" {
			p = path.Join(dir, "…")
		}
		return p, reason, err
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) >= shortestSecret {
			if reason, err = s.opts.Rules.Content(p, strings.NewReader(part)); reason != "" || err != nil {
				return path.Join(shown, "…"), reason, err
			}
		}
		shown = path.Join(shown, part)
	}
	s.harmless, _ = path.Split(p)
	return shown, "", nil
}

// shortestSecret is the length of the shortest token that can be told by its shape.
const shortestSecret = 16

// outside looks for secrets in what a file says outside of its content: where a link
// leads, and attributes (download programs note the address in one). It returns why
// the file has to stay behind; a folder can't, and only loses the attribute.
func (s *snapshotter) outside(f snapshot.File) (snapshot.File, string, error) {
	reason, err := s.opts.Rules.Content(f.Path, strings.NewReader(f.Target))
	if reason != "" || err != nil {
		return f, reason, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		reason, err := s.opts.Rules.Content(f.Path, strings.NewReader(strings.TrimPrefix(name, "user.")+" = "+f.Xattrs[name]))
		switch {
		case err != nil:
			return f, "", err
		case reason != "" && f.Type != snapshot.Dir:
			return f, reason + ", in an attribute", nil
		case reason != "":
			f.Xattrs = maps.Clone(f.Xattrs)
			delete(f.Xattrs, name)
		}
	}
	return f, "", nil
}
