/* In place of ring's two functions that multiply the generator of P-256 on x86-64 and AArch64: they use a table of 150 kB,
 * which no packer makes smaller. A TLS handshake needs one or two such products, and has time for the function that
 * multiplies any point, in constant time too. build.sh gives these functions the names with which the linker (--wrap)
 * finds them instead of ring's; the table is then used by nothing and left out.
 *
 * As in ring's p256-nistz.c, a scalar is below the order of the group, a result is a Jacobian point, coordinates are in
 * Montgomery form, and all are little-endian limbs. The unit tests of src/calls/tls.rs check it by known answers. */

#include <stdint.h>

typedef uint64_t limbs[4];

void p256_point_mul(limbs result[3], const limbs scalar, const limbs x, const limbs y);

static const limbs x = { 0x79e730d418a9143c, 0x75ba95fc5fedb601, 0x79fb732b77622510, 0x18905f76a53755c6 };
static const limbs y = { 0xddf25357ce95560a, 0x8b4ab8e4ba19e45c, 0xd2e88688dd21f325, 0x8571ff1825885d85 };

void p256_point_mul_base(limbs result[3], const limbs scalar)
{
	p256_point_mul(result, scalar, x, y);
}

void p256_point_mul_base_vartime(limbs result[3], const limbs scalar)
{
	p256_point_mul(result, scalar, x, y);
}
