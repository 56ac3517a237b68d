package envs

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/content"
)

// shippedTogether makes the sets to judge of what was read: where a file has no place of
// its own, it lies in a folder of the target.
func shippedTogether(names []string, read []*artifactReader, at string) ([]*artifact.Set, error) {
	var sets []*artifact.Set
	var plain *artifact.Set
	var groups packageGroups
	places, err := plainPlaces(names, read, at)
	if err != nil {
		return nil, err
	}
	for i, r := range read {
		place, together := places[i]
		if together && plain == nil {
			plain = &artifact.Set{}
			sets = append(sets, plain)
		}
		if together && r.order[0].Format == content.Plain {
			f := r.order[0].files[0]
			f.Path, f.Asked = place, true
			if !slices.ContainsFunc(plain.Files, func(other artifact.File) bool { return other.Path == place }) {
				plain.Files = append(plain.Files, f)
			}
			continue
		}
		own := map[*content.Set]*artifact.Set{}
		if together {
			own[r.order[0].Set] = plain
		}
		for _, s := range r.finish(at) {
			if together && s.home() == r.order[0].Set {
				for k := range s.files {
					s.files[k].Path = path.Join(place, strings.TrimPrefix(s.files[k].Path, at))
				}
			}
			if len(s.files) == 0 && s.Package == nil {
				continue
			}
			home := s.home()
			set, made := own[home], false
			if set == nil {
				set, made = groups.of(home)
				own[home] = set
			}
			if made {
				sets = append(sets, set)
			}
			set.Files = append(set.Files, s.files...)
			if s.Package != nil && s.Broken == nil { // else its file says what is wrong
				set.Packages = append(set.Packages, artifact.Package{File: s.Name, Format: s.Format, Package: s.Package})
			}
		}
	}
	return sets, nil
}

// plainPlaces are where plain files lie, by the number of their argument: as they do to
// each other here, and below a folder. Folders beside them, as a shell's * names them, are
// among them.
func plainPlaces(names []string, read []*artifactReader, at string) (map[int]string, error) {
	places := map[int]string{}
	var top []string // of the folder that they have in common
	first := true
	for i, r := range read {
		if r.order[0].Format != content.Plain {
			continue
		}
		if r.here != "" {
			places[i] = r.here
			continue
		}
		abs, err := filepath.Abs(names[i])
		if err != nil {
			return nil, err
		}
		places[i] = abs
		parts := strings.Split(filepath.Dir(abs), "/")
		if first {
			top, first = parts, false
		}
		same := 0
		for same < min(len(top), len(parts)) && top[same] == parts[same] {
			same++
		}
		top = top[:same]
	}
	for i := range places {
		if read[i].here == "" {
			places[i] = path.Join(at, strings.TrimPrefix(places[i], strings.Join(top, "/")))
		}
	}
	for i, r := range read {
		if first || r.here != "" || r.order[0].Format != content.Folder {
			continue
		}
		abs, err := filepath.Abs(names[i])
		if err != nil {
			return nil, err
		}
		if dir, base := filepath.Split(abs); strings.TrimSuffix(dir, "/") == strings.Join(top, "/") {
			places[i] = path.Join(at, base)
		}
	}
	return places, nil
}

// home is the set that decides where a set's files are installed: the package that they
// are in, or the argument.
func (s *readSet) home() *content.Set {
	set := s.Set
	for set.Within != nil && set.Format != content.Deb && set.Format != content.RPM {
		set = set.Within
	}
	return set
}

// finish puts what was read in order, whoever came first, the argument itself before what
// it holds. What a jar has inside is its file's then, and what is broken has a file that
// says so.
func (r *artifactReader) finish(at string) []*readSet {
	slices.SortStableFunc(r.order[1:], func(a, b *readSet) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range r.order {
		if s.Format == content.Folder {
			slices.SortFunc(s.files, func(a, b artifact.File) int { return strings.Compare(a.Path, b.Path) })
			for i := range s.files {
				s.places[s.files[i].Path] = i
			}
		}
	}
	for _, s := range r.order {
		var err error
		if s.Broken != nil {
			err = fmt.Errorf("as a %s file: %w", s.Format, s.Broken)
		}
		if s.Format != content.Jar {
			if err != nil {
				s.files = append(s.files, artifact.File{Name: s.Name, Path: path.Join(at, path.Base(s.Name)), Executable: true, Err: err})
			}
			continue
		}
		f := r.jarFile(s)
		f.Members = append(f.Members, s.members...)
		f.Err = cmp.Or(f.Err, err)
	}
	return r.order
}

// jarFile is the file of a jar, of the outermost where it lies in another.
func (r *artifactReader) jarFile(s *readSet) *artifact.File {
	for s.Within != nil && s.Within.Format == content.Jar {
		s = r.sets[s.Within]
	}
	in, place := s, strings.TrimSuffix(s.At, "!")
	if s.Within != nil {
		in = r.sets[s.Within]
	}
	i, ok := in.places[place]
	if !ok {
		i = len(in.files)
		in.places[place], in.files = i, append(in.files, artifact.File{Name: s.Name, Path: place})
	}
	return &in.files[i]
}

// packageGroups are packages that can be installed together: of one format and
// architecture, each once.
type packageGroups []*packageGroup

type packageGroup struct {
	format       content.Format
	architecture string // "" while all are for any
	names        map[string]bool
	set          *artifact.Set
}

// of is the set for what an argument or a package holds; made says that it is new.
func (g *packageGroups) of(s *content.Set) (set *artifact.Set, made bool) {
	set = &artifact.Set{}
	if s.Package == nil || s.Format == content.Wheel {
		return set, true
	}
	architecture := s.Package.Architecture
	if architecture == "all" || architecture == "noarch" {
		architecture = ""
	}
	for _, other := range *g {
		fits := architecture == "" || other.architecture == "" || architecture == other.architecture
		if other.format == s.Format && fits && !other.names[s.Package.Name] {
			other.architecture = cmp.Or(other.architecture, architecture)
			other.names[s.Package.Name] = true
			return other.set, false
		}
	}
	*g = append(*g, &packageGroup{s.Format, architecture, map[string]bool{s.Package.Name: true}, set})
	return set, true
}
