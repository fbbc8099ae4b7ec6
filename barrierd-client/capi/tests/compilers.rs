//! The header under every compiler and language that is here, with more warnings than most programs ask for.

#[path = "../../../tests/common/c/mod.rs"]
mod c;

const PROGRAM: &str = "#define _POSIX_C_SOURCE 200809L\n#include <barrierd.h>\n\
    int main(void)\n{\n\
    struct barrierd_barrier *barrier;\n\
    uint64_t stamp = barrierd_stamp_inline();\n\
    const struct barrierd_mapped_data *data;\n\
    if (barrierd_open(BARRIERD_DEFAULT_PATH, &barrier) < 0)\n\treturn 1;\n\
    data = barrierd_data(barrier);\n\
    return barrierd_data_passed(data, stamp) + (barrierd_word(data, BARRIERD_FLAGS) == 0)\n\
    \t+ barrierd_data_vpassed(data, barrierd_data_vstamp(data))\n\
    \t+ (barrierd_load(&data->per_cpu[0].last_interrupt_ns) == 0);\n}\n";

#[test]
fn the_header_pleases_them_all() {
    c::BARRIERD.pleases_every_compiler(PROGRAM);
}
