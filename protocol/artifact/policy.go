package artifact

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Policy is what a version is held to before it may become active, on a
// device and in the control plane alike. What it checks, in this order:
//
//	 1  sizes within the limits of the protocol   ErrTooLarge
//	 2  deterministic CBOR, nothing unknown       ErrCorrupt, ErrFormat
//	 3  signatures of the role release            ErrUnsigned, ErrWrongKey, ErrThreshold
//	 4  the transfer within the signed caps       ErrTooLarge, ErrDigest
//	 5  fleet, then kernel ABI                    ErrFleet, ErrABI
//	 6  named by a want, or installed locally     ErrUnwanted, ErrName
//	 7  version at or above the floor             ErrDowngrade
//	 8  not_after                                 ErrExpired
//	 9  chunk digests                             ErrTruncated, ErrCorrupt
//	10  the base that it starts from, if any      ErrBase
//	    decoded within its size, signed digest    ErrCorrupt, ErrDigest
//	11  a whole model, every number finite        ErrInvalid, ErrNonFinite
//
// Release does 1 to 8 before anything is fetched, Open all of them. Golden
// vectors follow, in package predictor.
type Policy struct {
	Root  *Root  // verified trust anchor
	Fleet string // this device's
	ABI   int    // of this kernel
	// Name is the model's name in the want; empty accepts any, for an
	// installation from a file.
	Name string
	// Expected is the digest that the newest verified want names.
	Expected protocol.Digest
	// Local skips Expected: a person with access to the device installs.
	Local bool
	// Floor is the lowest version of this name that the device may run.
	Floor uint64
	// Base is the model that a delta or head starts from, decoded and verified
	// before; nil if there is none.
	Base *Model
	// Now is trusted time, UTC ms: the larger of the last persisted one and
	// signed times. 0 means unknown, and nothing has expired.
	Now int64
}

// Release verifies steps 1 to 8 and returns the release.
func (p *Policy) Release(envelope []byte, d *Descriptor) (*Release, error) {
	rel, err := p.Root.OpenRelease(envelope)
	if err != nil {
		return nil, err
	}
	if err := d.checkCaps(rel); err != nil {
		return nil, err
	}
	switch {
	case rel.Fleet != p.Fleet:
		return nil, fmt.Errorf("%w: %s was released for %q, this is %q; release it for this fleet",
			ErrFleet, rel, rel.Fleet, p.Fleet)
	case rel.ABI != p.ABI:
		return nil, fmt.Errorf("%w: %s needs ABI %d, this one is %d; update the software here, or release the model again",
			ErrABI, rel, rel.ABI, p.ABI)
	case !p.Local && rel.Digest != p.Expected:
		return nil, fmt.Errorf("%w: the newest want names %s, this is %s (%s)",
			ErrUnwanted, p.Expected.Short(), rel.Digest.Short(), rel)
	case p.Name != "" && rel.Name != p.Name:
		return nil, fmt.Errorf("%w: asked for %s, this is %s", ErrName, p.Name, rel)
	case rel.Version < p.Floor:
		return nil, fmt.Errorf("%w: %s is below v%d, which this device confirmed as its lowest; release a newer version",
			ErrDowngrade, rel, p.Floor)
	case rel.NotAfter != 0 && p.Now > rel.NotAfter:
		return nil, fmt.Errorf("%w: %s may be activated until %d, it is %d (UTC ms); release it again",
			ErrExpired, rel, rel.NotAfter, p.Now)
	}
	return rel, nil
}

// Open verifies steps 1 to 11 and returns the release and the model.
func (p *Policy) Open(envelope []byte, t *Transfer) (*Release, *Model, error) {
	rel, err := p.Release(envelope, &t.Descriptor)
	if err != nil {
		return nil, nil, err
	}
	m, err := Unpack(t.Descriptor, t.Payload, p.Base, rel)
	if err != nil {
		return nil, nil, err
	}
	return rel, m, nil
}
