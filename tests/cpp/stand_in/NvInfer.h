// A stand-in for TensorRT's header, for machines without it: the few declarations that examples/cpp uses, as the
// headers of 10.3 to 11 have them, over an "engine" that enlarges a picture twofold by repeating its pixels. The
// plan is a text: "engine HEIGHT WIDTH CHANNELS ELEMENT"; anything else is no engine.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT = 0, kUINT8 = 5 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };

struct Dims64 {
    static constexpr int32_t MAX_DIMS{8};
    int32_t nbDims;
    int64_t d[MAX_DIMS];
};
using Dims = Dims64;
using AsciiChar = char;

class ILogger {
public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, AsciiChar const* message) noexcept = 0;
    virtual ~ILogger() = default;
};

struct Picture {
    int64_t height, width, channels;
    int32_t element;
};

class IExecutionContext {
public:
    explicit IExecutionContext(Picture picture) : picture_(picture) {}
    bool setTensorAddress(char const* name, void* data) noexcept {
        (std::string(name) == "input" ? input_ : output_) = static_cast<char*>(data);
        return true;
    }
    bool enqueueV3(cudaStream_t) noexcept {
        if (!input_ || !output_) return false;
        for (int64_t row = 0; row < 2 * picture_.height; ++row)
            for (int64_t column = 0; column < 2 * picture_.width; ++column)
                std::memcpy(output_ + (row * 2 * picture_.width + column) * picture_.channels,
                            input_ + ((row / 2) * picture_.width + column / 2) * picture_.channels, picture_.channels);
        return true;
    }

private:
    Picture picture_;
    char* input_ = nullptr;
    char* output_ = nullptr;
};

class ICudaEngine {
public:
    explicit ICudaEngine(Picture picture) : picture_(picture) {}
    int32_t getNbIOTensors() const noexcept { return 2; }
    char const* getIOTensorName(int32_t index) const noexcept { return index == 0 ? "input" : "output"; }
    TensorIOMode getTensorIOMode(char const* name) const noexcept {
        return std::string(name) == "input" ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    DataType getTensorDataType(char const*) const noexcept { return static_cast<DataType>(picture_.element); }
    Dims getTensorShape(char const* name) const noexcept {
        int64_t const scale = std::string(name) == "input" ? 1 : 2;
        return Dims{4, {1, scale * picture_.height, scale * picture_.width, picture_.channels}};
    }
    IExecutionContext* createExecutionContext() noexcept { return new IExecutionContext(picture_); }

private:
    Picture picture_;
};

class IRuntime {
public:
    explicit IRuntime(ILogger& logger) : logger_(logger) {}
    ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept {
        std::istringstream plan(std::string(static_cast<char const*>(blob), size));
        std::string word;
        Picture picture{};
        if (plan >> word >> picture.height >> picture.width >> picture.channels >> picture.element && word == "engine")
            return new ICudaEngine(picture);
        logger_.log(ILogger::Severity::kERROR, "the plan is of no version that this library knows");
        return nullptr;
    }

private:
    ILogger& logger_;
};

inline IRuntime* createInferRuntime(ILogger& logger) noexcept { return new IRuntime(logger); }

}  // namespace nvinfer1
