package envs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact"
)

// maxArtifactsFile bounds artifacts.json, in bytes.
const maxArtifactsFile = 64 << 20

// recollect adds to sets what the trials of their files saw being loaded: a build wrote that
// into artifacts.json, which lies in a folder around them.
func recollect(sets []*artifact.Set) {
	found := map[string]*Artifacts{} // by folder; nil where there is none
	for _, set := range sets {
		for _, f := range set.Files {
			if f.Object == nil || !f.Object.Dynamic {
				continue
			}
			name, err := filepath.Abs(f.Name)
			if err != nil {
				continue
			}
			dir, list := artifactsAround(filepath.Dir(name), found)
			if list == nil || list.Trial == nil {
				continue
			}
			if loaded, ok := list.loadedBy(dir, name); ok {
				if set.Seen == nil {
					set.Seen = map[string][]string{}
				}
				set.Seen[f.Path] = loaded
			}
		}
	}
}

// artifactsAround finds the nearest artifacts.json in a folder or above it.
func artifactsAround(dir string, found map[string]*Artifacts) (string, *Artifacts) {
	list, known := found[dir]
	if !known {
		if text, err := readBounded(filepath.Join(dir, artifactsFile), maxArtifactsFile); err == nil {
			list = &Artifacts{}
			if json.Unmarshal(text, list) != nil {
				list = nil // somebody else's
			}
		}
		found[dir] = list
	}
	if parent := filepath.Dir(dir); list == nil && parent != dir {
		return artifactsAround(parent, found)
	}
	return dir, list
}

// loadedBy is what the trial of a file below dir saw it loading; ok is false where it
// wasn't tried, or is another one by now.
func (list *Artifacts) loadedBy(dir, name string) (loaded []string, ok bool) {
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		return nil, false
	}
	p := slices.IndexFunc(list.Trial.Programs, func(p TrialProgram) bool { return p.Path == rel && p.Started && p.Loaded != nil })
	a := slices.IndexFunc(list.Artifacts, func(a Artifact) bool { return a.Path == rel })
	if p < 0 || a < 0 {
		return nil, false
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil || hex.EncodeToString(h.Sum(nil)) != list.Artifacts[a].SHA256 {
		return nil, false
	}
	return append([]string{}, list.Trial.Programs[p].Loaded...), true
}

// declared is a set with what stead.toml says that the project's artifacts load by name,
// if it is of the project's own files.
func (p *Project) declared(set *artifact.Set, target string) *artifact.Set {
	build, _, _ := p.Config.For(target)
	if build.Dlopen == nil {
		return set
	}
	for _, f := range set.Files {
		name, err := filepath.Abs(f.Name)
		if err == nil && !strings.HasPrefix(name, p.Dir+"/") {
			if name, err = filepath.EvalSymlinks(name); err != nil || !strings.HasPrefix(name, p.Dir+"/") {
				return set
			}
		}
	}
	own := *set
	own.Declared = build.Dlopen
	return &own
}
