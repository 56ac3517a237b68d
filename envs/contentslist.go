package envs

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/stead-env/stead/envs/lock"
)

// bom is a list of an env's contents in the words of CycloneDX 1.6: what scanners for
// vulnerabilities and licenses read. It has no time, so that one env has one list.
type bom struct {
	Schema       string          `json:"$schema"`
	Format       string          `json:"bomFormat"`
	SpecVersion  string          `json:"specVersion"`
	SerialNumber string          `json:"serialNumber"`
	Version      int             `json:"version"`
	Metadata     bomMetadata     `json:"metadata"`
	Components   []bomComponent  `json:"components"`
	Dependencies []bomDependency `json:"dependencies"`
}

type bomMetadata struct {
	Lifecycles []map[string]string `json:"lifecycles"`
	Tools      bomTools            `json:"tools"`
	Component  bomComponent        `json:"component"`
}

type bomTools struct {
	Components []bomComponent `json:"components"`
}

type bomComponent struct {
	Type       string        `json:"type"`
	Ref        string        `json:"bom-ref,omitempty"`
	Name       string        `json:"name"`
	Version    string        `json:"version,omitempty"`
	Hashes     []bomHash     `json:"hashes,omitempty"`
	Licenses   []bomLicense  `json:"licenses,omitempty"`
	PURL       string        `json:"purl,omitempty"`
	Properties []bomProperty `json:"properties,omitempty"`
}

type bomHash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type bomLicense struct {
	License struct {
		ID              string `json:"id,omitempty"` // SPDX's, else there is a name
		Name            string `json:"name,omitempty"`
		Acknowledgement string `json:"acknowledgement"`
	} `json:"license"`
}

type bomProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type bomDependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// contents lists the env of a build: the base, the tools, and the packages and the
// delta of each.
func (f *buildFacts) contents() bom {
	b := bom{Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		SerialNumber: f.serial(),
		Metadata: bomMetadata{Lifecycles: []map[string]string{{"phase": "build"}},
			Tools:     bomTools{[]bomComponent{{Type: "application", Name: "stead", Version: f.Builder.Version}}},
			Component: bomComponent{Type: "container", Ref: "env", Name: f.Release.Target, Version: fmt.Sprint(f.Release.Number)}}}
	env := bomDependency{Ref: "env"}
	var rest []bomDependency
	for _, l := range f.layers() {
		part := bomComponent{Type: "container", Ref: l.name, Name: l.name}
		var needs bomDependency
		if l.name == layerBase {
			part.Properties = []bomProperty{{"stead:lock", f.Identity.String()}, {"stead:rootfs", f.Lock.Rootfs.Digest}}
			b.Components, needs = f.system(b.Components, needs)
		} else {
			part.Properties = []bomProperty{{"stead:tools", f.Tools.Digest}}
		}
		needs.Ref = l.name
		env.DependsOn = append(env.DependsOn, l.name)
		b.Components = append(b.Components, part)
		if l.delta.SHA256 != "" {
			ref := l.name + "-delta"
			b.Components = append(b.Components, bomComponent{Type: "file", Ref: ref, Name: ref, Hashes: sha256Hash(l.delta.SHA256)})
			needs.DependsOn = append(needs.DependsOn, ref)
		}
		for _, p := range l.packages {
			c := f.packageComponent(l.name, p)
			b.Components = append(b.Components, c)
			needs.DependsOn = append(needs.DependsOn, c.Ref)
		}
		rest = append(rest, needs)
	}
	b.Dependencies = append([]bomDependency{env}, rest...)
	return b
}

// system adds the distribution, which tells scanners whose advisories count.
func (f *buildFacts) system(list []bomComponent, needs bomDependency) ([]bomComponent, bomDependency) {
	if f.Lock.Host.ID == "" {
		return list, needs
	}
	needs.DependsOn = append(needs.DependsOn, "os")
	return append(list, bomComponent{Type: "operating-system", Ref: "os", Name: f.Lock.Host.ID, Version: f.Lock.Host.Version}), needs
}

func (f *buildFacts) packageComponent(layer string, p lock.Package) bomComponent {
	c := bomComponent{Type: "library", Name: p.Name, Version: p.Version, PURL: f.purl(p),
		Licenses:   f.Licenses.of(layer, p.Name),
		Properties: []bomProperty{{"stead:layer", layer}, {"stead:proof", p.Proof}}}
	c.Ref = c.PURL
	if p.HasFile() {
		c.Hashes = sha256Hash(p.SHA256)
	}
	return c
}

func sha256Hash(sum string) []bomHash { return []bomHash{{"SHA-256", sum}} }

// serial is the list's name: the same for the same content.
func (f *buildFacts) serial() string {
	words := []string{f.Builder.Version, f.Release.String(), f.Identity.String()}
	if f.Tools != nil {
		words = append(words, f.Tools.Digest)
	}
	sum := sha256.Sum256([]byte(strings.Join(words, "\n")))
	return uuid([16]byte(sum[:16]), 8)
}

// purl is the package URL of a Debian package: https://github.com/package-url/purl-spec.
func (f *buildFacts) purl(p lock.Package) string {
	host := f.Lock.Host
	var b strings.Builder
	b.WriteString("pkg:deb/" + purlText(strings.ToLower(cmp.Or(host.ID, "debian"))) + "/" + purlText(strings.ToLower(p.Name)))
	if p.Version != "" {
		b.WriteString("@" + purlText(p.Version))
	}
	sep := "?"
	for _, q := range [][2]string{{"arch", p.Architecture}, {"distro", cmp.Or(host.Codename, strings.TrimSuffix(host.ID+"-"+host.Version, "-"))}} {
		if q[1] != "" {
			b.WriteString(sep + q[0] + "=" + purlText(q[1]))
			sep = "&"
		}
	}
	return b.String()
}

// purlText escapes what a part of a package URL can't have as it is.
func purlText(s string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:"
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(plain, s[i]) >= 0 {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}
