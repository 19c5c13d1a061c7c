# As much of Zephyr's build system as the sample and the module use. CONFIGURATION is a file that sets what Kconfig gave.
enable_language(C)
include(${CONFIGURATION})
add_library(zephyr_interface INTERFACE)
target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_LIST_DIR})
target_compile_options(zephyr_interface INTERFACE -imacros ${AUTOCONF})
add_executable(app ${CMAKE_CURRENT_LIST_DIR}/stub.c)
target_link_libraries(app PRIVATE zephyr_interface pthread)

function(zephyr_library_named name)
  add_library(${name} STATIC)
  target_link_libraries(${name} PRIVATE zephyr_interface)
  target_link_libraries(app PRIVATE ${name})
  set(ZEPHYR_CURRENT_LIBRARY ${name} PARENT_SCOPE)
endfunction()

function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()

function(zephyr_include_directories)
  target_include_directories(zephyr_interface INTERFACE ${ARGN})
endfunction()

function(zephyr_compile_definitions)
  target_compile_definitions(zephyr_interface INTERFACE ${ARGN})
endfunction()

foreach(module IN LISTS EXTRA_ZEPHYR_MODULES)
  file(STRINGS ${module}/zephyr/module.yml line REGEX "^  cmake: ")
  string(REPLACE "  cmake: " "" directory ${line})
  add_subdirectory(${module}/${directory} module)
endforeach()
