#ifndef ZEPHYR_LINKER_SECTION_TAGS_H
#define ZEPHYR_LINKER_SECTION_TAGS_H

#define __noinit

#endif
