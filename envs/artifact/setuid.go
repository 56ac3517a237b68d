package artifact

import (
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/loader"
)

// checkSetuid tells of libraries that a loader finds by $ORIGIN alone: started for somebody
// else than who the program runs as then, loaders take $ORIGIN for their own folders only.
func (c *check) checkSetuid(res *loader.Result) {
	if !c.file.Setuid || c.isLibrary() || res.Loader == nil {
		return
	}
	for _, m := range res.Objects {
		dir := path.Dir(path.Clean(m.Name))
		if m.By == nil || !byOrigin(m, dir) {
			continue
		}
		trusted := false
		for _, d := range res.Loader.SystemDirs {
			trusted = trusted || strings.HasPrefix(dir+"/", d+"/")
		}
		if !trusted {
			r := c.unproven("setuid", "%s is setuid or setgid, and finds %s by $ORIGIN, which its loader then passes over"+
				" unless its owner starts it", c.name, path.Base(m.Name))
			r.Library = m.Name
			r.way("give it a RUNPATH without $ORIGIN: -Wl,-rpath,%s", dir)
			return
		}
	}
}

// byOrigin tells whether a folder is one of those that an object, or one that asked for
// that, names by $ORIGIN, and not by its path.
func byOrigin(m *loader.Mapped, dir string) bool {
	found := false
	for by := m.By; by != nil; by = by.By {
		for _, raw := range slices.Concat(by.Object.RunPath, by.Object.RPath) {
			expanded := strings.NewReplacer("$ORIGIN", path.Dir(by.Name), "${ORIGIN}", path.Dir(by.Name)).Replace(raw)
			if path.Clean(expanded) == dir {
				if expanded == raw {
					return false
				}
				found = true
			}
		}
	}
	return found
}
