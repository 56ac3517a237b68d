package containerd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// The labels of what stead has in the daemon.
const (
	labelIdentity = "stead.identity" // of images: the env's
	labelTarget   = "stead.target"
	labelRelease  = "stead.release"
	labelLayer    = "stead.layer"   // of images: digest of the one layer
	labelScratch  = "stead.scratch" // the folder that the session, or the env's user, has its own in
)

// The labels by which the daemon's garbage collector knows what needs what.
const (
	gcRoot     = "containerd.io/gc.root"
	gcExpire   = "containerd.io/gc.expire"
	gcConfig   = "containerd.io/gc.ref.content.config"
	gcLayer    = "containerd.io/gc.ref.content.l.0"
	gcSnapshot = "containerd.io/gc.ref.snapshot." // and the snapshotter
)

// making is how long making an image may take, at most, before the daemon collects
// what it has so far.
const making = 6 * time.Hour

// image is an env in the daemon.
type image struct {
	name  string
	layer digest.Digest // which also names the snapshot: a chain of one layer
}

// imageName is what people see. Images that come from no registry are in localhost/
// for other tools too: no other machine is ever asked for them.
func imageName(spec runtime.Spec) string {
	target, release, _ := strings.Cut(spec.Name, "@")
	_, id, found := strings.Cut(spec.Identity, ":")
	if !found {
		id = spec.Identity
	}
	if len(id) > 12 {
		id = id[:12]
	}
	return "localhost/stead/" + plain(target) + ":" + plain(release) + "-" + plain(id)
}

// plain is a part of a name as images may have it.
func plain(s string) string {
	var b strings.Builder
	gap := false
	for _, c := range strings.ToLower(s) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			if gap && b.Len() > 0 {
				b.WriteByte('-')
			}
			gap = false
			b.WriteRune(c)
			continue
		}
		gap = true
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

// find looks for the env's image, by its name or, where the same env was made under
// another, by its identity. The root is not looked at.
func (d *daemon) find(ctx context.Context, spec runtime.Spec) (image, error) {
	name := imageName(spec)
	resp, err := d.images.Get(ctx, &imagesapi.GetImageRequest{Name: name})
	if err == nil && resp.Image.Labels[labelIdentity] == spec.Identity {
		return imageOf(resp.Image)
	}
	if err != nil && !notFound(err) {
		return image{}, err
	}
	list, err := d.images.List(ctx, &imagesapi.ListImagesRequest{Filters: []string{
		fmt.Sprintf("labels.%q==%q", labelIdentity, spec.Identity)}})
	if err != nil {
		return image{}, err
	}
	for _, other := range list.Images {
		if found, err := imageOf(other); err == nil {
			found.name = name
			return found, d.record(ctx, spec, found, other.Target)
		}
	}
	return image{}, errdefs.ErrNotFound
}

func imageOf(i *imagesapi.Image) (image, error) {
	layer, err := digest.Parse(i.Labels[labelLayer])
	if err != nil {
		return image{}, errdefs.ErrNotFound
	}
	return image{name: i.Name, layer: layer}, nil
}

// record writes the image's name.
func (d *daemon) record(ctx context.Context, spec runtime.Spec, i image, target *types.Descriptor) error {
	record := &imagesapi.Image{Name: i.name, Labels: labels(spec), Target: target,
		CreatedAt: timestamppb.Now(), UpdatedAt: timestamppb.Now()}
	record.Labels[labelLayer] = i.layer.String()
	record.Labels[labelScratch] = spec.Scratch
	_, err := d.images.Create(ctx, &imagesapi.CreateImageRequest{Image: record})
	if errdefs.IsAlreadyExists(native(err)) {
		_, err = d.images.Update(ctx, &imagesapi.UpdateImageRequest{Image: record})
	}
	return err
}

// labels tell people what an image is.
func labels(spec runtime.Spec) map[string]string {
	target, release, _ := strings.Cut(spec.Name, "@")
	return map[string]string{labelIdentity: spec.Identity, labelTarget: target, labelRelease: release}
}

// make makes the env's image, under a lease of that name: what a killed process had
// so far is collected when the lease is swept or expires. Signals end it.
func (d *daemon) make(ctx context.Context, spec runtime.Spec, lease string) (i image, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := session.CatchSignals()
	defer signals.Stop()
	signals.Forward(func(sig os.Signal) { cancel(fmt.Errorf("making an image of %s: %v", spec.Name, sig)) }, making, func() {})
	i = image{name: imageName(spec)}
	err = d.leased(ctx, lease, spec.Scratch, func(ctx context.Context) error {
		layer, architecture, err := d.writeLayer(ctx, spec, lease)
		if errors.Is(err, errMade) {
			i, err = d.find(ctx, spec)
			return err
		}
		if err != nil {
			return err
		}
		i.layer = layer.Digest
		if err := d.unpack(ctx, i, layer.Size, lease); err != nil {
			return err
		}
		manifest, err := d.describe(ctx, spec, layer, architecture)
		if err != nil {
			return err
		}
		return d.record(ctx, spec, i, &types.Descriptor{
			MediaType: manifest.MediaType, Digest: manifest.Digest.String(), Size: manifest.Size})
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return i, err
}

// leased calls f with a context under which the daemon's garbage collector leaves
// everything alone until f has returned.
func (d *daemon) leased(ctx context.Context, name, scratch string, f func(context.Context) error) error {
	lingering, cancel := linger(ctx)
	defer cancel()
	_, err := d.leases.Create(lingering, &leasesapi.CreateRequest{ID: name, Labels: map[string]string{
		gcExpire: time.Now().Add(making).UTC().Format(time.RFC3339), labelScratch: scratch}})
	if err != nil {
		return err
	}
	err = f(leases.WithLease(ctx, name))
	if _, derr := d.leases.Delete(context.WithoutCancel(ctx), &leasesapi.DeleteRequest{ID: name}); err == nil {
		err = derr
	}
	return err
}

// errMade says that another process has made the image meanwhile.
var errMade = errors.New("the image was made by another process")

// writeLayer writes the env's layer into the daemon's content. The daemon lets one
// process at a time write under a name: the others wait here.
func (d *daemon) writeLayer(ctx context.Context, spec runtime.Spec, lease string) (desc ocispec.Descriptor, architecture string, err error) {
	ref := "stead-layer-" + spec.Identity
	w, err := content.OpenWriter(ctx, d.content, content.WithRef(ref))
	if err != nil {
		return desc, "", err
	}
	defer func() {
		w.Close()
		if err != nil {
			d.content.Abort(context.WithoutCancel(ctx), ref) //nolint:errcheck // the first error counts
		}
	}()
	if _, err := d.find(ctx, spec); err == nil {
		return desc, "", errMade
	}
	if err := w.Truncate(0); err != nil { // what a killed one wrote
		return desc, "", err
	}
	sum := sha256.New()
	count := &counter{w: io.MultiWriter(sum, w)}
	buffered := bufio.NewWriterSize(count, 1<<20)
	machine, err := writeLayer(ctx, buffered, spec.Root)
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return desc, "", err
	}
	desc = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, sum), Size: count.n}
	err = w.Commit(ctx, desc.Size, desc.Digest, content.WithLabels(map[string]string{"containerd.io/uncompressed": desc.Digest.String()}))
	if errdefs.IsAlreadyExists(err) { // from an image whose name was removed
		_, err = d.leases.AddResource(ctx, &leasesapi.AddResourceRequest{ID: lease,
			Resource: &leasesapi.Resource{ID: desc.Digest.String(), Type: "content"}})
	}
	return desc, architectures[machine], err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// describe writes the image's configuration and manifest.
func (d *daemon) describe(ctx context.Context, spec runtime.Spec, layer ocispec.Descriptor, architecture string) (ocispec.Descriptor, error) {
	epoch := time.Unix(0, 0).UTC()
	config := ocispec.Image{Created: &epoch, Platform: ocispec.Platform{Architecture: architecture, OS: "linux"},
		Config: ocispec.ImageConfig{Labels: labels(spec), Cmd: []string{"/bin/sh"},
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
		History: []ocispec.History{{Created: &epoch, CreatedBy: "stead", Comment: spec.Name}}}
	configDesc, err := d.writeJSON(ctx, ocispec.MediaTypeImageConfig, config, map[string]string{
		gcSnapshot + d.Snapshotter: layer.Digest.String()})
	if err != nil {
		return configDesc, err
	}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: configDesc, Layers: []ocispec.Descriptor{layer}}
	return d.writeJSON(ctx, ocispec.MediaTypeImageManifest, manifest, map[string]string{
		gcConfig: configDesc.Digest.String(), gcLayer: layer.Digest.String()})
}

// writeJSON writes a small blob with labels, which one that is there already gets too.
func (d *daemon) writeJSON(ctx context.Context, mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	err = content.WriteBlob(ctx, d.content, "stead-"+desc.Digest.String(), bytes.NewReader(data), desc, content.WithLabels(labels))
	if err != nil {
		return desc, err
	}
	var fields []string
	for name := range labels {
		fields = append(fields, "labels."+name)
	}
	_, err = d.content.Update(ctx, content.Info{Digest: desc.Digest, Labels: labels}, fields...)
	return desc, err
}

// unpack makes the snapshot of the image's layer where the snapshotter lacks it, under
// a key that begins with that name until it is whole.
func (d *daemon) unpack(ctx context.Context, i image, size int64, name string) error {
	key := name + "-unpack"
	stat := &snapshotsapi.StatSnapshotRequest{Snapshotter: d.Snapshotter, Key: i.layer.String()}
	if _, err := d.snapshots.Stat(ctx, stat); err == nil || !notFound(err) {
		return err
	}
	lingering, cancel := linger(ctx)
	defer cancel()
	prepared, err := d.snapshots.Prepare(lingering, &snapshotsapi.PrepareSnapshotRequest{Snapshotter: d.Snapshotter, Key: key})
	if err != nil {
		return err
	}
	applied, err := d.diff.Apply(ctx, &diffapi.ApplyRequest{Mounts: prepared.Mounts, SyncFs: true,
		Diff: &types.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: i.layer.String(), Size: size}})
	if err == nil && applied.Applied.Digest != i.layer.String() {
		err = fmt.Errorf("unpacking %s gave %s", i.layer, applied.Applied.Digest)
	}
	if err == nil {
		_, err = d.snapshots.Commit(ctx, &snapshotsapi.CommitSnapshotRequest{Snapshotter: d.Snapshotter,
			Name: i.layer.String(), Key: key})
		if err == nil {
			return nil
		}
	}
	d.removeSnapshot(context.WithoutCancel(ctx), d.Snapshotter, key) //nolint:errcheck // the first error counts
	if errdefs.IsAlreadyExists(native(err)) {
		return nil // unpacked by another process meanwhile
	}
	return err
}

// again unpacks an image that is there into a snapshotter that lacks its snapshot.
func (d *daemon) again(ctx context.Context, spec runtime.Spec, i image, name string) error {
	return d.leased(ctx, name, spec.Scratch, func(ctx context.Context) error {
		info, err := d.content.Info(ctx, i.layer)
		if err != nil {
			return err
		}
		record, err := d.images.Get(ctx, &imagesapi.GetImageRequest{Name: i.name})
		if err != nil {
			return err
		}
		data, err := content.ReadBlob(ctx, d.content, ocispec.Descriptor{
			Digest: digest.Digest(record.Image.Target.Digest), Size: record.Image.Target.Size})
		if err != nil {
			return err
		}
		var manifest ocispec.Manifest
		if err := json.Unmarshal(data, &manifest); err != nil {
			return fmt.Errorf("reading the manifest of %s: %w", i.name, err)
		}
		// Later the image's configuration keeps the snapshot.
		label := gcSnapshot + d.Snapshotter
		_, err = d.content.Update(ctx, content.Info{Digest: manifest.Config.Digest,
			Labels: map[string]string{label: i.layer.String()}}, "labels."+label)
		if err != nil {
			return err
		}
		return d.unpack(ctx, i, info.Size, name)
	})
}

// Prune removes the images that were made for the store with that scratch folder, but
// those whose identity keep knows, and returns their names; with dry it only does that.
// Snapshots of theirs that sessions stand on stay until these end.
func (e *Engine) Prune(ctx context.Context, scratch string, dry bool, keep func(identity string) bool) (removed []string, err error) {
	d, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer d.close()
	ctx = d.in(ctx)
	list, err := d.images.List(ctx, &imagesapi.ListImagesRequest{Filters: []string{"labels." + strconv.Quote(labelScratch) + "==" + strconv.Quote(scratch)}})
	if err != nil {
		return nil, d.explain(ctx, "listing images", err)
	}
	for _, i := range list.Images {
		if keep(i.Labels[labelIdentity]) {
			continue
		}
		if dry {
			removed = append(removed, i.Name)
			continue
		}
		if _, err := d.images.Delete(ctx, &imagesapi.DeleteImageRequest{Name: i.Name}); err != nil && !notFound(err) {
			return removed, d.explain(ctx, "removing the image "+i.Name, err)
		}
		removed = append(removed, i.Name)
	}
	return removed, nil
}
