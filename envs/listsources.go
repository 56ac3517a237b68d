package envs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/snapshot"
)

// distRelease is a release of a distribution, by its package base-files.
type distRelease struct {
	id, number, codename string
	files                string // how the versions of its base-files begin
	merged               bool   // its installers make /bin a link into /usr
	retired              bool   // the keys of its archive have left the keyring
}

// distReleases are those that a list can be told to be of. Debian's base-files is
// numbered like the release; of Ubuntu's only the long-lived ones are here.
var distReleases = []distRelease{
	{"debian", "8", "jessie", "8", false, true},
	{"debian", "9", "stretch", "9", false, true},
	{"debian", "10", "buster", "10", true, true},
	{"debian", "11", "bullseye", "11", true, false},
	{"debian", "12", "bookworm", "12", true, false},
	{"debian", "13", "trixie", "13", true, false},
	{"ubuntu", "14.04", "trusty", "7.2ubuntu5", false, false},
	{"ubuntu", "16.04", "xenial", "9.4ubuntu4", false, false},
	{"ubuntu", "18.04", "bionic", "10.1ubuntu2", false, false},
	{"ubuntu", "20.04", "focal", "11ubuntu5", true, false},
	{"ubuntu", "22.04", "jammy", "12ubuntu4", true, false},
	{"ubuntu", "24.04", "noble", "13ubuntu10", true, false},
}

// distKeyrings are the keys of distributions' archives, as packages of theirs install
// them, and where the retired ones are.
var distKeyrings = map[string]struct{ keys, retired string }{
	"debian": {"debian-archive-keyring.gpg", "debian-archive-removed-keys.gpg"},
	"ubuntu": {"ubuntu-archive-keyring.gpg", "ubuntu-archive-removed-keys.gpg"},
}

const keyringDir = "/usr/share/keyrings"

// findRelease tells a release by the version of base-files.
func findRelease(baseFiles string) (distRelease, bool) {
	ubuntu := strings.Contains(baseFiles, "ubuntu")
	for _, r := range distReleases {
		rest, ok := strings.CutPrefix(baseFiles, r.files)
		if ok && (r.id == "ubuntu") == ubuntu && (rest == "" || rest[0] < '0' || rest[0] > '9') {
			return r, true
		}
	}
	return distRelease{}, false
}

// name is the release for people: "Debian 11 (bullseye)".
func (r distRelease) name() string {
	return strings.ToUpper(r.id[:1]) + r.id[1:] + " " + r.number + " (" + r.codename + ")"
}

// suites are lines of sources.list(5) for the release's archives.
func (r distRelease) suites(main, security string) []string {
	components, secure := "main contrib non-free", r.codename+"-security"
	switch {
	case r.id == "ubuntu":
		components = "main restricted universe multiverse"
	case slices.Contains([]string{"8", "9", "10"}, r.number):
		secure = r.codename + "/updates"
	case r.number != "11":
		components += " non-free-firmware"
	}
	lines := []string{"deb " + main + " " + r.codename + " " + components, "deb " + main + " " + r.codename + "-updates " + components}
	if security != "" {
		lines = append(lines, "deb "+security+" "+secure+" "+components)
	}
	return lines
}

// NoArchiveError says that nobody knows where a list's packages could be.
type NoArchiveError struct{ Why string }

func (e *NoArchiveError) Error() string { return "finding archives for the list: " + e.Why }

// Hint says how to go on.
func (e *NoArchiveError) Hint() string {
	return "name them: --archive 'deb http://mirror.example/debian bullseye main', with [signed-by=/path/to/keyring.gpg] after deb where the keys aren't the distribution's"
}

// listSources makes a folder with the apt configuration that the host may have had, in
// which archives are searched like in a host's own. It notes what it assumed.
func (l *lister) listSources(ctx context.Context) error {
	i := slices.IndexFunc(l.packages, func(p snapshot.Package) bool { return p.Name == "base-files" })
	known := false
	if i >= 0 {
		l.release, known = findRelease(l.packages[i].Version)
	}
	lines, from := l.opts.Archives, ""
	for _, line := range lines {
		if err := checkArchive(line); err != nil {
			return err
		}
	}
	switch {
	case len(lines) > 0:
	case i < 0:
		return &NoArchiveError{"it has no base-files, which would tell the distribution"}
	case !known:
		return &NoArchiveError{fmt.Sprintf("base-files %s tells no release that is known", l.packages[i].Version)}
	default:
		main, security, place, err := l.addresses(ctx)
		if err != nil {
			return err
		}
		lines, from = l.release.suites(main, security), " at the addresses of "+place
	}
	if known {
		note := "taken for " + l.release.name() + " by its base-files " + l.packages[i].Version
		if from != "" {
			note += ", with the archives of that" + from
		}
		if l.merged() {
			note += ", and for a host where /bin, /sbin and /lib are links into /usr"
		}
		l.cfg.Progress.Note("locating", "the list is "+note)
	}
	return l.writeSources(l.aptDir(), lines)
}

// merged reports whether /bin is a link on the host, as far as a list can tell.
func (l *lister) merged() bool {
	return l.release.merged || l.release.id == "" || slices.ContainsFunc(l.packages, func(p snapshot.Package) bool {
		return p.Name == "usrmerge" || p.Name == "usr-is-merged"
	})
}

func checkArchive(line string) error {
	words := strings.Fields(line)
	if len(words) < 3 || words[0] != "deb" || strings.ContainsAny(line, "\n\r\x00") {
		return &NoArchiveError{fmt.Sprintf("%q is no line of sources.list", line)}
	}
	for _, scheme := range []string{"file:", "copy:"} {
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, scheme) }) {
			return &NoArchiveError{fmt.Sprintf("%q is a folder of a host that isn't at hand: name its web address, and the folder as a mirror of it in fleet.toml", line)}
		}
	}
	return nil
}

// addresses are those of a distribution's archives: as fleet.toml has them, else as
// this machine's own apt does.
func (l *lister) addresses(ctx context.Context) (main, security, from string, err error) {
	id := l.release.id
	for _, a := range l.cfg.Fleet.config.Archives {
		switch uri := strings.TrimRight(a.URI, "/"); path.Base(uri) {
		case id:
			main = uri
		case id + "-security":
			security = uri
		}
	}
	if main != "" {
		return main, security, "fleet.toml", nil
	}
	machine, err := l.opts.Folder("/")
	if err != nil {
		return "", "", "", err
	}
	defer closeHost(machine)
	known, err := archive.ReadKnown(ctx, machine, debArchitecture())
	if err != nil {
		return "", "", "", fmt.Errorf("reading this machine's apt configuration: %w", err)
	}
	for _, k := range known {
		if !l.release.hosts(k) {
			continue
		}
		if strings.HasSuffix(k.Suite, "-security") || strings.HasSuffix(k.Suite, "/updates") {
			if security == "" {
				security = k.URI
			}
		} else if main == "" {
			main = k.URI
		}
	}
	if main == "" {
		return "", "", "", &NoArchiveError{"neither fleet.toml nor this machine's apt names one of " + l.release.name()}
	}
	return main, security, "this machine's apt", nil
}

// hosts reports whether an archive that a machine knows is of the release's
// distribution: by what its index says, else by the name of a release.
func (r distRelease) hosts(k archive.Known) bool {
	if k.Origin != "" {
		return strings.EqualFold(k.Origin, r.id)
	}
	return path.Base(k.URI) == r.id || path.Base(k.URI) == r.id+"-security"
}

// writeSources writes sources.list, and copies the keys that may sign for it.
func (l *lister) writeSources(dir string, lines []string) error {
	put := func(name string, content []byte) error {
		name = filepath.Join(dir, filepath.Clean("/"+name))
		return errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, content, 0o644))
	}
	plain := false // a line that leaves the keys to the distribution
	for _, line := range lines {
		files := signedByFiles(line)
		plain = plain || files == nil
		for _, file := range files {
			key, err := readBounded(file, maxKeyringFile)
			if err == nil {
				err = put(file, key)
			}
			if err != nil {
				return err
			}
		}
	}
	found := 0
	for id, ring := range distKeyrings {
		names := []string{ring.keys}
		if l.release.retired {
			names = append(names, ring.retired)
		}
		for _, name := range names {
			key, err := readBounded(filepath.Join(keyringDir, name), maxKeyringFile)
			if err != nil || l.release.id != "" && id != l.release.id {
				continue // that there is none is told below
			}
			found++
			if err := put("etc/apt/trusted.gpg.d/"+name, key); err != nil {
				return err
			}
		}
	}
	if plain && found == 0 {
		return &NoArchiveError{"no keys of it are in " + keyringDir + ", which a package such as debian-archive-keyring installs"}
	}
	return put("etc/apt/sources.list", []byte(strings.Join(lines, "\n")+"\n"))
}

// maxKeyringFile bounds a keyring, in bytes.
const maxKeyringFile = 4 << 20

// signedByFiles are the keyrings that a line of sources.list names.
func signedByFiles(line string) (files []string) {
	_, options, _ := strings.Cut(line, "[")
	options, _, _ = strings.Cut(options, "]")
	for _, option := range strings.Fields(options) {
		if key, value, _ := strings.Cut(option, "="); strings.EqualFold(key, "signed-by") {
			for _, f := range strings.Split(value, ",") {
				if filepath.IsAbs(f) {
					files = append(files, filepath.Clean(f))
				}
			}
		}
	}
	return files
}

// debArchitecture is this machine's architecture as dpkg names it.
func debArchitecture() string {
	names := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el", "mips64le": "mips64el", "mipsle": "mipsel"}
	if name, ok := names[goruntime.GOARCH]; ok {
		return name
	}
	return goruntime.GOARCH
}
