package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	goruntime "runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	maxImages = 1000
	maxNested = 5 // indexes in indexes
)

// candidate is one image for one platform.
type candidate struct {
	digest   v1.Hash // of its manifest; of its configuration in what docker save writes
	names    []string
	platform *v1.Platform
	manifest *v1.Manifest
	saved    *saved
	config   *v1.ConfigFile
	absent   bool // named, but not in the file
}

// candidates are the images that an archive holds.
func (a *archive) candidates() ([]candidate, error) {
	if !a.has("index.json") {
		if a.has("manifest.json") {
			return a.saved()
		}
		return nil, a.stranger()
	}
	text, err := a.document("index.json")
	if err != nil {
		return nil, err
	}
	var all []candidate
	seen := map[v1.Hash]int{}
	return all, a.indexed(text, "index.json", nil, seen, &all, 0)
}

// names that an index gives to an image, in the annotations that are in use.
var nameKeys = []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"}

// indexed adds what an index names.
func (a *archive) indexed(text []byte, where string, names []string, seen map[v1.Hash]int, all *[]candidate, depth int) error {
	index, err := v1.ParseIndexManifest(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("its %s: %w", where, err)
	}
	if depth > maxNested {
		return fmt.Errorf("its %s: indexes in indexes, more than %d deep", where, maxNested)
	}
	for _, d := range index.Manifests {
		mine := slices.Clone(names)
		for _, key := range nameKeys {
			if name := d.Annotations[key]; name != "" && !slices.Contains(mine, name) {
				mine = append(mine, name)
			}
		}
		if i, ok := seen[d.Digest]; ok && d.MediaType.IsImage() {
			(*all)[i].names = append((*all)[i].names, mine...)
			continue
		}
		switch {
		case d.MediaType.IsIndex():
			text, err := a.named(d.Digest)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = a.indexed(text, blobName(d.Digest), mine, seen, all, depth+1)
			}
			if err != nil {
				return err
			}
		case d.MediaType.IsImage() && d.Annotations["vnd.docker.reference.type"] == "":
			c, err := a.candidate(d, mine)
			if err != nil {
				return err
			}
			seen[d.Digest] = len(*all)
			if *all = append(*all, c); len(*all) > maxImages {
				return fmt.Errorf("its %s: more than %d images", where, maxImages)
			}
		}
	}
	return nil
}

// candidate reads an image's manifest and configuration.
func (a *archive) candidate(d v1.Descriptor, names []string) (candidate, error) {
	c := candidate{digest: d.Digest, names: names, platform: d.Platform}
	text, err := a.named(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		c.absent = true
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if c.manifest, err = v1.ParseManifest(bytes.NewReader(text)); err != nil {
		return c, fmt.Errorf("its %s: %w", blobName(d.Digest), err)
	}
	text, err = a.named(c.manifest.Config.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		c.absent = true
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if c.config, err = v1.ParseConfigFile(bytes.NewReader(text)); err != nil {
		return c, fmt.Errorf("its %s: %w", blobName(c.manifest.Config.Digest), err)
	}
	if p := c.config.Platform(); p != nil {
		c.platform = p
	}
	return c, nil
}

// label is what a person chooses an image by.
func (c candidate) label() string {
	s := c.digest.String()
	if len(c.names) > 0 {
		s = strings.Join(c.names, " ")
	}
	if c.platform != nil {
		s += " (" + c.platform.String() + ")"
	}
	return s
}

// wanted reports whether one word of a reference names an image.
func (c candidate) wanted(word string) bool {
	if c.digest.String() == word || c.config != nil && c.manifest != nil && c.manifest.Config.Digest.String() == word {
		return true
	}
	for _, name := range c.names {
		if name == word || strings.HasSuffix(name, "/"+word) {
			return true
		}
		if _, tag, ok := cutTag(name); ok && tag == word {
			return true
		}
	}
	p, err := v1.ParsePlatform(word)
	return err == nil && strings.Contains(word, "/") && c.platform != nil && c.platform.Satisfies(*p)
}

// cutTag cuts NAME:TAG.
func cutTag(name string) (string, string, bool) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.Contains(name[i:], "/") {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

// choose finds the image that is meant, which is the one for this machine where
// nothing says more.
func choose(all []candidate, ref, file string) (candidate, error) {
	left := all
	if ref != "" {
		for word := range strings.SplitSeq(ref, ",") {
			left = filter(left, func(c candidate) bool { return c.wanted(word) })
		}
	}
	if len(left) == 0 {
		if len(all) == 0 {
			return candidate{}, errors.New("it holds no image")
		}
		return candidate{}, &withHint{fmt.Errorf("none of its images is %s; there are %s", ref, labels(all)), suggest(all, file)}
	}
	if len(left) > 1 {
		mine := filter(left, func(c candidate) bool {
			return c.platform != nil && c.platform.OS == "linux" && c.platform.Architecture == goruntime.GOARCH
		})
		if len(mine) == 0 {
			return candidate{}, &withHint{fmt.Errorf("none of its images is for linux/%s; there are %s", goruntime.GOARCH, labels(left)),
				suggest(left, file)}
		}
		left = mine
	}
	if len(left) > 1 {
		return candidate{}, &withHint{fmt.Errorf("it holds several images: %s", labels(left)), suggest(left, file)}
	}
	c := left[0]
	switch {
	case c.absent:
		return c, fmt.Errorf("%s is named in its index, but isn't in the file", c.label())
	case c.platform != nil && c.platform.OS != "linux" && c.platform.OS != "":
		return c, fmt.Errorf("%s is no Linux", c.label())
	}
	return c, nil
}

func filter(all []candidate, keep func(candidate) bool) []candidate {
	var kept []candidate
	for _, c := range all {
		if keep(c) {
			kept = append(kept, c)
		}
	}
	return kept
}

func labels(all []candidate) string {
	var list []string
	for i, c := range all {
		if i == 12 {
			list = append(list, fmt.Sprintf("%d more", len(all)-i))
			break
		}
		list = append(list, c.label())
	}
	return strings.Join(list, ", ")
}

// suggest gives the address of one of several images, by the shortest word that
// tells it from the others.
func suggest(all []candidate, file string) string {
	for _, c := range all {
		var words []string
		if c.platform != nil {
			words = append(words, c.platform.String())
		}
		for _, name := range c.names {
			if _, tag, ok := cutTag(name); ok {
				words = append(words, tag)
			}
			words = append(words, name)
		}
		for _, word := range append(words, c.digest.String()) {
			if !c.absent && len(filter(all, func(c candidate) bool { return c.wanted(word) })) == 1 {
				return fmt.Sprintf("image:%s#%s", file, word)
			}
		}
	}
	return ""
}

// debianArchitecture is Debian's name for an architecture of an image.
func debianArchitecture(arch, variant string) string {
	switch arch {
	case "386":
		return "i386"
	case "arm":
		if variant == "v7" || variant == "" {
			return "armhf"
		}
		return "armel"
	case "ppc64le":
		return "ppc64el"
	case "mips64le":
		return "mips64el"
	case "mipsle":
		return "mipsel"
	case "loong64", "amd64", "arm64", "riscv64", "s390x", "ppc64":
		return arch
	}
	return ""
}
