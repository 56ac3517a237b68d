package envs

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot"
)

// FolderFacts are what the folder of a root can't tell of its machine, or only slowly.
type FolderFacts struct {
	Kernel, CPU string // "" where they aren't known
	// Database reads its packages; an error means that nobody knows them.
	Database func() (*snapshot.Database, error)
}

// JudgeFolder opens the folder of a root to judge for, "/" for the machine that this runs
// on. It reads no more of it than the files at hand ask for.
func JudgeFolder(dir string, f FolderFacts) (*Judged, error) {
	host := lock.Host{Kernel: f.Kernel, CPU: f.CPU}
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		if text, err := readRelease(dir, name); err == nil {
			host.ID, host.Version = snapshot.OSRelease(text)
			break
		}
	}
	known := sync.OnceValue(func() *snapshot.Database {
		db, err := f.Database()
		if err != nil {
			return &snapshot.Database{}
		}
		return db
	})
	live, err := system.OpenLive(dir, system.LiveOptions{CPU: f.CPU})
	if err != nil {
		return nil, err
	}
	host.Architecture, host.Libc = builtFor(live.Loaders())
	if dir == "/" {
		host.Architecture = cmp.Or(host.Architecture, debArchitecture()) // it runs us
	}
	j := &Judged{root: dir, CheckedTarget: CheckedTarget{Name: dir}.with(host)}
	facts := live.Facts()
	j.target = &artifact.Target{Name: dir, System: live, Host: host, Facts: facts}
	j.named = sync.OnceValue(func() *artifact.Target {
		facts.Packages = folderPackages(known())
		return &artifact.Target{Name: dir, System: namedSystem{live, owners(dir, known())}, Host: host, Facts: facts}
	})
	return j, nil
}

// namedSystem is a live system that knows which packages brought its files.
type namedSystem struct {
	*system.Live
	owner func(path string) string
}

func (s namedSystem) Find(p string) (system.File, bool) {
	f, ok := s.Live.Find(p)
	if ok && !f.Dir {
		f.Package = s.owner(f.Path)
	}
	return f, ok
}

// readRelease reads a small file of a root; its links lead out of no folder.
func readRelease(dir, name string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not hold us up
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(text), err
}

// folderPackages are the packages whose files are there.
func folderPackages(db *snapshot.Database) []system.Package {
	list, _ := installed(db, nil, nil)
	return list
}

// owners tells of a path without links which package brought it. A database may have it by
// another way: where /usr is merged, at /lib.
func owners(dir string, db *snapshot.Database) func(path string) string {
	links := map[string]string{}
	if entries, err := os.ReadDir(dir); err == nil {
		for _, e := range entries {
			if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
				links[e.Name()] = to
			}
		}
	}
	resolve := snapshot.NewLinks(links)
	moved := map[string]snapshot.Diversion{}
	for _, d := range db.Diversions {
		moved[d.From] = d
	}
	by := map[string]string{}
	for _, p := range db.Packages {
		for _, f := range p.Files {
			if d, ok := moved[f]; ok && d.By != p.Name {
				f = d.To
			}
			by[resolve.Locate(f)] = p.Name
		}
	}
	return func(path string) string { return by[strings.TrimPrefix(path, "/")] }
}

// builtFor is the architecture and C library of a system by its loaders, the first of
// which are the native one's in all but odd places.
func builtFor(loaders []*system.Loader) (architecture, libc string) {
	for _, l := range loaders {
		name := debianNames[l.Machine.String()]
		if libc == "" || l.Class > loaders[0].Class {
			architecture, libc = name, strings.TrimSpace(fmt.Sprintf("%s %s", l.Family, l.Version))
		}
	}
	return architecture, libc
}

// debianNames are Debian's names of processors, by those that ELF has.
var debianNames = map[string]string{"EM_X86_64": "amd64", "EM_386": "i386", "EM_AARCH64": "arm64", "EM_ARM": "armhf",
	"EM_PPC64": "ppc64el", "EM_S390": "s390x", "EM_RISCV": "riscv64"}
