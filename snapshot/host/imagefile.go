package host

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

const (
	maxMembers  = 200_000 // files of an image's tar
	maxDocument = 16 << 20
	maxLayers   = 512 // each may stay open
)

// archive is the file or the folder that an image lies in. Nothing outside of it is
// ever opened.
type archive struct {
	root    *os.Root
	file    *blob // of a tar
	members map[string]member
}

// member is a file of a tar, or its name for another.
type member struct {
	at, size int64
	link     string
}

// openArchive opens a folder, or a tar that may be compressed as a whole.
func openArchive(ctx context.Context, name string, s *spool) (*archive, error) {
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, errors.Unwrap(err)
	case st.IsDir():
		root, err := os.OpenRoot(name)
		return &archive{root: root}, err
	case !st.Mode().IsRegular():
		return nil, errors.New("it is neither a file nor a folder")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	a := &archive{file: &blob{f: f, size: st.Size()}}
	if err := a.index(ctx, s); err != nil {
		a.close() //nolint:errcheck // there is an error already
		return nil, err
	}
	return a, nil
}

func (a *archive) close() error {
	if a.root != nil {
		return a.root.Close()
	}
	return a.file.close()
}

// index finds the members of a tar, which is decompressed first where it has to be.
func (a *archive) index(ctx context.Context, s *spool) error {
	r, compressed, err := plain(a.file)
	if err != nil {
		return err
	}
	defer r.Close()
	if compressed {
		b, err := s.keep(ctx, r)
		if err != nil {
			return fmt.Errorf("decompressing it: %w", err)
		}
		a.file.close() //nolint:errcheck // it was only read
		a.file = b
	}
	in := a.file.section(0, a.file.size)
	tr := tar.NewReader(in)
	for a.members = map[string]member{}; ; {
		hdr, err := tr.Next()
		if err == io.EOF && len(a.members) > 0 {
			return nil
		}
		if err != nil {
			if len(a.members) > 0 {
				return fmt.Errorf("its tar is damaged: %w", err)
			}
			return cmp.Or(disk(a.file), error(&withHint{errors.New("it is no tar"), imageHint}))
		}
		if len(a.members) >= maxMembers {
			return fmt.Errorf("its tar has more than %d files", maxMembers)
		}
		at, err := in.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		m := member{at: at, size: hdr.Size}
		name := strings.TrimPrefix(path.Clean("/"+hdr.Name), "/")
		switch hdr.Typeflag {
		case tar.TypeReg, '\x00':
		case tar.TypeSymlink: // docker save had these for layers that images share
			m.link = path.Join(path.Dir("/"+name), hdr.Linkname)[1:]
		case tar.TypeLink:
			m.link = path.Clean("/" + hdr.Linkname)[1:]
		default:
			continue
		}
		a.members[name] = m
	}
}

// open opens one file of the archive.
func (a *archive) open(name string) (*blob, error) {
	if a.root == nil {
		for range 10 {
			m, ok := a.members[name]
			if !ok {
				break
			}
			if m.link == "" {
				return &blob{f: a.file.f, at: m.at, size: m.size, borrowed: true}, nil
			}
			name = m.link
		}
		return nil, fs.ErrNotExist
	}
	f, err := a.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	return &blob{f: f, size: st.Size()}, nil
}

func (a *archive) has(name string) bool {
	b, err := a.open(name)
	b.close() //nolint:errcheck // it was not even read
	return err == nil
}

// document reads a small file.
func (a *archive) document(name string) ([]byte, error) {
	b, err := a.open(name)
	if err != nil {
		return nil, fmt.Errorf("opening its %s: %w", name, err)
	}
	defer b.close() //nolint:errcheck // it was only read
	if b.size > maxDocument {
		return nil, fmt.Errorf("its %s has more than %d bytes", name, maxDocument)
	}
	text, err := io.ReadAll(b.section(0, b.size))
	if err != nil {
		return nil, fmt.Errorf("reading its %s: %w", name, err)
	}
	return text, nil
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// named reads a small blob of an OCI layout and checks it.
func (a *archive) named(h v1.Hash) ([]byte, error) {
	text, err := a.document(blobName(h))
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(text)); err != nil || got != h {
		return nil, fmt.Errorf("its %s is damaged", blobName(h))
	}
	return text, nil
}

// layer is one of an image, from the bottom up.
type layer struct {
	name   string  // in the archive
	digest v1.Hash // as it lies there; zero where nothing tells it
	diffID v1.Hash // decompressed
	size   int64
}

func (l layer) label() v1.Hash {
	if l.digest.Hex == "" {
		return l.diffID
	}
	return l.digest
}

// layers are those of an image.
func (a *archive) layers(c candidate) ([]layer, error) {
	var list []layer
	if c.manifest != nil {
		for _, d := range c.manifest.Layers {
			if strings.Contains(string(d.MediaType), "encrypted") {
				return nil, fmt.Errorf("its layer %s is encrypted", d.Digest)
			}
			list = append(list, layer{name: blobName(d.Digest), digest: d.Digest, size: d.Size})
		}
	} else {
		for _, name := range c.saved.Layers {
			list = append(list, layer{name: strings.TrimPrefix(path.Clean("/"+name), "/")})
		}
	}
	ids := c.config.RootFS.DiffIDs
	if len(ids) != len(list) || len(list) == 0 || len(list) > maxLayers {
		return nil, fmt.Errorf("its manifest has %d layers and its configuration %d", len(list), len(ids))
	}
	for i := range list {
		list[i].diffID = ids[i]
		b, err := a.open(list[i].name)
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("it isn't in the image's file")
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d (%s): %w", i+1, len(list), list[i].label(), err)
		}
		list[i].size = b.size
		b.close() //nolint:errcheck // it was not even read
	}
	return list, nil
}

const imageHint = "image:FILE reads an OCI layout (a folder, or a tar of one) and what docker save writes"

// disks are the images of disks that people may take for one of a container.
var disks = []struct {
	name  string
	at    int64
	magic string
}{
	{"a qcow2 disk", 0, "QFI\xfb"}, {"a VMDK disk", 0, "KDMV"}, {"a VHDX disk", 0, "vhdxfile"}, {"a VDI disk", 0x40, "\x7f\x10\xda\xbe"},
	{"a squashfs", 0, "hsqs"}, {"an XFS file system", 0, "XFSB"}, {"an ext file system", 0x438, "\x53\xef"},
	{"a btrfs file system", 0x10040, "_BHRfS_M"}, {"a CD image", 0x8001, "CD001"}, {"a raw disk with partitions", 510, "\x55\xaa"},
}

// disk refuses images of disks.
func disk(b *blob) error {
	for _, d := range disks {
		start := make([]byte, len(d.magic))
		if _, err := b.section(d.at, int64(len(start))).ReadAt(start, 0); err == nil && string(start) == d.magic {
			return &withHint{fmt.Errorf("it is %s, and no image of a container", d.name), "mount it read-only, and give the folder"}
		}
	}
	return nil
}

// stranger says what an archive is that holds no image.
func (a *archive) stranger() error {
	for _, name := range []string{"etc/os-release", "etc/passwd", "usr/lib/os-release"} {
		if a.has(name) {
			if a.root != nil {
				return &withHint{errors.New("it is the root of a system, and no image"), "give the folder without image:"}
			}
			return &withHint{errors.New("it is the tar of a root file system, and no image"), "unpack it as root, and give the folder"}
		}
	}
	if a.has("repositories") {
		return &withHint{errors.New("it is from a Docker before 1.10"), "load and save it with a current one"}
	}
	return &withHint{errors.New("it holds neither an index.json, as an OCI layout does, nor a manifest.json, as docker save writes"), imageHint}
}

// saved is an image in the manifest.json of docker save.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// saved reads manifest.json.
func (a *archive) saved() ([]candidate, error) {
	text, err := a.document("manifest.json")
	if err != nil {
		return nil, err
	}
	var list []saved
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("its manifest.json: %w", err)
	}
	var all []candidate
	for i := range list {
		name := strings.TrimPrefix(path.Clean("/"+cmp.Or(list[i].Config, "-")), "/")
		text, err := a.document(name)
		if err != nil {
			return nil, err
		}
		c := candidate{names: list[i].RepoTags, saved: &list[i]}
		if c.digest, _, err = v1.SHA256(bytes.NewReader(text)); err != nil {
			return nil, err
		}
		if c.config, err = v1.ParseConfigFile(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("its %s: %w", name, err)
		}
		c.platform = c.config.Platform()
		all = append(all, c)
	}
	return all, nil
}
